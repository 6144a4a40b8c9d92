"""Structures in which the paravisor of an Azure confidential VM reports on its hardware and vTPM."""
