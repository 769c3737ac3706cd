"""What makes the documentation: its site and its pictures."""
