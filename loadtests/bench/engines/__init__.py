"""The engines of the log are measured side by side: what each costs a process, beside what its server does bare."""
