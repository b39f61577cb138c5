"""Several finished runs beside each other: what differs in them, and what that did."""
