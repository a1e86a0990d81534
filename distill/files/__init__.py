"""What has to do with files and machines alone: files that are whole or absent, locks, caches, ranks, devices, progress."""
