"""Log driver `none`: lines are read and dropped."""
