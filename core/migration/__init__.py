"""Moving jobs from one store to another, those of APScheduler 3 included.

Pickles are read as data (`pickles`), turned into jobs by a closed list of what may be in them
(`apscheduler`), out of the layouts of APScheduler's stores (`layouts`), and written to the new
store in batches (`moving`).
"""
