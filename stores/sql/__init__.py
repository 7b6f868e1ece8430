"""What the SQL store does differently from one kind of database to the next."""
