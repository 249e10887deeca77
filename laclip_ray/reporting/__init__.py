"""Results for people: console tables and the HTML report."""
