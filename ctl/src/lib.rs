//! figspanctl: the operator's command line for a figspan hub
