"""What people look at: pictures, the report, the table in the terminal."""
