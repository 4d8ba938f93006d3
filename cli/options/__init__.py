"""Groups of flags that several commands share; each gives one object of options."""
