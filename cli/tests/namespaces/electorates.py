"""Nodes with different files: whose votes count."""

import json
import time

from lab import Failed, corosync_conf, node_list, timeouts


def conf_of(lab, nodes):
    """A configuration whose node list has these nodes."""
    return lab.write(f"list-{len(nodes)}.conf", corosync_conf(nodelist=node_list({node: node for node in nodes})))


def restart(lab, node, conf):
    lab.nodes[node].terminate()
    lab.nodes[node].process.wait(timeout=10)
    lab.start_node(node, conf)


def status(lab, node):
    return json.loads(lab.nodes[node].status("--json"))["status"]


def an_old_list_makes_no_second_quorate_part(lab, table):
    """
    Five nodes become three, one after the other; a node that was removed comes back with its old file, and then one that was not.
    """
    old, new = conf_of(lab, [1, 2, 3, 4, 5]), conf_of(lab, [1, 2, 3])
    patience = 5 * timeouts(lab)
    for host in lab.hosts:
        lab.start_node(host, old)
    lab.agreement(lab.hosts, patience=patience)
    for host in (4, 5):
        lab.nodes[host].terminate()
    lab.agreement([1, 2, 3], patience=patience)
    for host in (1, 2, 3):
        restart(lab, host, new)
        lab.agreement([1, 2, 3], patience=patience)
    seen = status(lab, 1)
    if seen["expected_votes"] != 3 or seen["differences"]:
        raise Failed(f"three votes are to be expected: {seen}")
    table.seen("three votes expected")
    lab.start_node(5, old)
    time.sleep(timeouts(lab))
    restart(lab, 3, old)
    until = time.monotonic() + 5 * timeouts(lab)
    while time.monotonic() < until:
        views = [lab.nodes[node].view for node in (1, 2, 3, 5)]
        rings = {view.ring for view in views if view and view.quorate and view.settled}
        parts = [[node.host for node in lab.nodes.values() if node.view and node.view.ring == ring] for ring in rings]
        if len([part for part in parts if len(part) > 1]) > 1:
            raise Failed(f"two parts are quorate: {parts}")
        time.sleep(0.05)
    for node in (1, 2):
        if not status(lab, node)["quorate"]:
            raise Failed(f"node {node} has lost quorum: {status(lab, node)}")
    table.seen("one part, and nodes 1 and 2 are quorate")


SCENARIOS = [
    (an_old_list_makes_no_second_quorate_part, 5),
]
