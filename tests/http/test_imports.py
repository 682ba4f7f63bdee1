"""How the modules of `http` depend on one another."""

from graphlib import TopologicalSorter

import grimp


def test_no_module_of_http_imports_itself_by_a_detour_also_not_within_a_function() -> None:
    graph = grimp.build_graph("ayb_jobs")
    rooms = {name for name in graph.modules if name.startswith("ayb_jobs.http.")}
    imports = {name: graph.find_modules_directly_imported_by(name) & rooms for name in rooms}
    assert imports["ayb_jobs.http.edge.server"] >= {"ayb_jobs.http.app"}  # imports within functions are seen
    assert imports["ayb_jobs.http.services"] == set()
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError where there is a circle
    assert order.index("ayb_jobs.http.app") < order.index("ayb_jobs.http.edge.server")
