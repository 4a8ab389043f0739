"""Documents -> blocks on disk, and the ledger of every token."""
