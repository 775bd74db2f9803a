"""Log driver `syslog`: lines go to the syslog daemon, here or elsewhere."""
