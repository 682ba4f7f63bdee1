"""What measures and breaks: benchmarks, torture, the checker that judges it, the tour.

Only `cli.commands` imports it.
"""
