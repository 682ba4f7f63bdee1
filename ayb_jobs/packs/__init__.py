"""The built-in jobs of AYB and Barycenter and their schedules, in the language that users write their own in."""
