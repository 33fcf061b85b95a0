//! The figspan agent: advertises a VM's workloads and carries bytes to them
