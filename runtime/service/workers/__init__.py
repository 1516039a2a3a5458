"""Do the jobs in processes of their own, and replace processes that crash, hang or are used up."""
