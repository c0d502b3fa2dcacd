"""What the operating system offers: private files, sockets, host names, ends of processes."""
