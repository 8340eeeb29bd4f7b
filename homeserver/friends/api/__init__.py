"""`/_guildhall/client/v1/friends`, `dms` and what else people have of their own: a file each, for the route table."""
