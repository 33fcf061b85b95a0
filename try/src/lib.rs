//! figspan-try: a hub, agents and workloads on one machine, in one command
