"""What is read and written: tables, files of any storage, JSON; and what runs on a cluster share."""
