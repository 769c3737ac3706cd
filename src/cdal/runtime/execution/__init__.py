"""Having tasks done: in this process, in others, or by a Ray cluster; verbs in their own process."""
