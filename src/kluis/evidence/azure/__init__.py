"""Azure confidential VMs: hardware, the paravisor's report on it, and the vTPM that the paravisor runs."""
