"""Nodes that are replaced under Pacemaker, and nodes that die under it."""

import os
import time

from cluster import dc, online
from lab import Failed

RESOURCES = """
primitive each ocf:pacemaker:Dummy op monitor interval=1s timeout=10s
primitive one ocf:pacemaker:Dummy op monitor interval=1s timeout=10s
clone each-clone each
property stonith-enabled=false no-quorum-policy=stop
"""

# How often a node dies.
DEATHS = 20


def configure(cluster):
    everyone = list(cluster.hosts)
    cluster.run_on(1, "crm", "-F", "configure", "load", "update", cluster.write("resources.crm", RESOURCES))
    wait(cluster, 1, everyone)


def wait(cluster, host, running):
    """Waits until the resources run on these hosts. Returns where the one is that runs once."""
    until = time.monotonic() + 60
    while True:
        cluster.look_after_daemons()
        places = cluster.places(host)
        one = places.get(("one", "Started"), [])
        if len(one) == 1 and places.get(("each", "Started")) == running:
            return one[0]
        if time.monotonic() > until:
            raise Failed(f"after 60 s host {host} shows the resources at {places}, not on {running}")
        time.sleep(0.1)


def nodes_are_replaced(cluster, table):
    """Real nodes become Quorate nodes, one by one, and real ones again, under one Pacemaker cluster."""
    everyone = list(cluster.hosts)
    cluster.start_everything()
    configure(cluster)
    for kind in ("C", "R"):
        for host in everyone:
            others = [other for other in everyone if other != host]
            place = wait(cluster, others[0], everyone)
            started = time.monotonic()
            cluster.shut_down(host)
            cluster.until(others[0], lambda text: online(text) == others and dc(text) in others, "the others")
            moved = wait(cluster, others[0], others)
            if place != host and moved != place:
                raise Failed(f"the resource moved from host {place} when host {host} was replaced")
            cluster.start_host(host, kind)
            cluster.start_pacemaker(host)
            cluster.until_whole(others[0])
            wait(cluster, others[0], everyone)
            # Under the kind that the node is now.
            table.kinds = 3 * kind
            table.note("one node replaced", time.monotonic() - started)
            seen = {at: dc(cluster.run_on(at, "crm_mon", "-1", "-n")) for at in everyone}
            if len(set(seen.values())) != 1:
                raise Failed(f"the hosts show different DCs: {seen}")
            if failures := cluster.failures(others[0]):
                raise Failed(f"actions failed while host {host} was replaced: {failures}")


def a_node_dies_again_and_again(cluster, table):
    """The node under Pacemaker is killed. Pacemaker connects to the next one, and nothing is left behind."""
    everyone = list(cluster.hosts)
    victim, others = everyone[-1], everyone[:-1]
    cluster.start_everything()
    configure(cluster)
    before = None
    for _ in range(DEATHS):
        pacemakerd = cluster.nodes[victim].pacemakerd
        killed = cluster.kill(victim)
        cluster.until(others[0], lambda text: online(text) == others, "the others")
        table.note("kill of a node until Pacemaker knows", time.monotonic() - killed)
        started = time.monotonic()
        cluster.start_host(victim).pacemakerd = pacemakerd
        cluster.until_whole(others[0])
        wait(cluster, others[0], everyone)
        table.note("start of the node until all is as before", time.monotonic() - started)
        if pacemakerd.poll() is not None:
            raise Failed(f"Pacemaker ended with {pacemakerd.returncode} when its node was killed")
        after = left_behind(cluster, victim)
        before = before or after
        # A real daemon leaves its clients' directories behind at each death.
        if after != before and cluster.kinds[victim] == "C":
            raise Failed(f"directories in /dev/shm and descriptors: {after}, and {before} after the first death")


def left_behind(cluster, host):
    """
    Returns the number of directories in a host's /dev/shm, and of the descriptors of the processes
    of the nodes on the other hosts. Waits for a moment without clients that come and go.
    """
    counts = []
    for _ in range(100):
        shared = cluster.shared_memory(host)
        names = [name for name in os.listdir(shared) if name.startswith("qb-")]
        open_files = [len(os.listdir(f"/proc/{cluster.nodes[other].process.pid}/fd")) for other in cluster.hosts]
        counts.append((len(names), open_files))
        if counts[-20:].count(counts[-1]) == 20:
            return counts[-1]
        time.sleep(0.1)
    raise Failed(f"directories in /dev/shm and descriptors do not settle: {counts[-20:]}")
