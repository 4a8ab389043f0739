"""What a terminal may show: safe text, numbers in words, tables, colours."""
