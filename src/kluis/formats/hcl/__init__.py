"""What the paravisor of an Azure confidential VM reports about its hardware and its vTPM, as fields."""
