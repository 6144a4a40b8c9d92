"""Shortest paths and communities of a graph."""

import networkx as nx

from kluis.enclave import Enclave

app = Enclave("networkx")


@app.ecall
def check() -> str:
    """Shortest paths and communities of a graph."""
    graph = nx.karate_club_graph()
    communities = nx.community.louvain_communities(graph, seed=0)
    return (
        f"{nx.shortest_path_length(graph, 16, 26)} {len(communities) in (3, 4, 5)} {len(nx.pagerank(graph))}"
    )
