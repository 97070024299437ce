'open
