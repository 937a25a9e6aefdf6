"""How much there is to compute, how long it takes, and what the machine could do: see the modules."""
