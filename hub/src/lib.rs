//! The figspan hub: the gateway that splits traffic between VMs and the cluster
