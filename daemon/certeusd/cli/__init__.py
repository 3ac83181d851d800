"""`certeus`: the command line. Each verb is a module that is imported when it is called."""
