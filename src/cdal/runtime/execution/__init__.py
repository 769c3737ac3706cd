"""Having tasks done: here, by other processes, by a Ray cluster; verbs in their own process."""
