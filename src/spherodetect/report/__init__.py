"""What people read, and what other programs read: tables, pictures, pages and exchange formats."""
