"""
The resources of the guide: a virtual address and an init script in a group, a promotable clone that
the group follows, and a resource of its own, placed by rules on attributes of the nodes. Nothing
runs where no rule lets it (`symmetric-cluster=false`).
"""

import re
import time

from lab import Failed

ADDRESS = "10.77.0.200"

# A service with an init script as the LSB asks for it.
SCRIPT = """#!/bin/sh
### BEGIN INIT INFO
# Provides:          quorate-web
# Required-Start:
# Required-Stop:
# Default-Start:
# Default-Stop:
# Short-Description: a service for a test
### END INIT INFO
running=/run/quorate-web
case $1 in
start) touch $running ;;
stop) rm -f $running ;;
restart | force-reload) touch $running ;;
status) [ -e $running ] || exit 3 ;;
*) exit 2 ;;
esac
"""

RESOURCES = f"""
node 1: n1 attributes kind=web
node 2: n2 attributes kind=web
node 3: n3 attributes kind=spare
primitive address ocf:heartbeat:IPaddr2 params ip={ADDRESS} cidr_netmask=24 op monitor interval=2s
primitive web lsb:quorate-web op monitor interval=2s
primitive own ocf:pacemaker:Dummy op monitor interval=2s
primitive store ocf:pacemaker:Stateful \\
    op monitor interval=2s role=Promoted op monitor interval=3s role=Unpromoted
group service address web
clone store-clone store meta promotable=true
location service-by-kind service rule 200: #uname eq n1 rule 100: kind eq web
location store-by-kind store-clone rule 50: kind eq web
location own-at own rule 100: kind eq spare rule 50: #uname eq n2
colocation service-with-store inf: service store-clone:Promoted
order promoted-first Mandatory: store-clone:promote service:start
property stonith-enabled=false no-quorum-policy=stop symmetric-cluster=false
"""


def places(service, own, unpromoted):
    """Returns where the resources are, if the service is on one host and the others are known."""
    wanted = {("store", "Promoted"): [service]}
    wanted |= {(name, "Started"): [service] for name in ("address", "web")}
    wanted[("own", "Started")] = [own]
    if unpromoted:
        wanted[("store", "Unpromoted")] = [unpromoted]
    return wanted


# Where everything is while all nodes are there, and without one of them.
WHOLE = places(service=1, own=3, unpromoted=2)
WITHOUT = {1: places(service=2, own=3, unpromoted=None), 3: places(service=1, own=2, unpromoted=2)}


def the_guides_resources_fail_over(cluster, table):
    """The guide's first example: each resource moves when its node dies, and returns with it."""
    cluster.start_everything()
    for host in cluster.hosts:
        script = cluster.directory / f"host-{host}" / "init.d" / "quorate-web"
        script.write_text(SCRIPT)
        script.chmod(0o755)
    code, text = cluster.nodes[1].run(cluster.quorate.resolve(), "lsb-check", "/etc/init.d/quorate-web")
    if code:
        raise Failed(f"quorate lsb-check ended with {code}: {text}")
    configuration = cluster.write("resources.crm", RESOURCES)
    cluster.run_on(1, "crm", "-F", "configure", "load", "update", configuration)
    cluster.until_placed(2, WHOLE)
    check_hosts(cluster, 1)
    status = cluster.run_on(2, "crm", "status")
    if not re.search(r"Current DC: n\d .*partition with quorum", status):
        raise Failed(f"crm status shows no DC with quorum:\n{status}")
    for victim, placed in WITHOUT.items():
        crashed = cluster.crash(victim)
        # As after a loss of power.
        (cluster.directory / f"host-{victim}" / "run" / "quorate-web").unlink(missing_ok=True)
        cluster.forget_address(victim, f"{ADDRESS}/24")
        table.note(f"kill of host {victim} until all resources run", cluster.until_placed(2, placed) - crashed)
        check_hosts(cluster, 2 if victim == 1 else 1)
        came = time.monotonic()
        cluster.start_host(victim)
        cluster.start_pacemaker(victim)
        table.note(f"start of host {victim} until all are back", cluster.until_placed(2, WHOLE) - came)
        check_hosts(cluster, 1)
    if failures := cluster.failures(2):
        raise Failed(f"actions failed: {failures}")


def check_hosts(cluster, wanted):
    """Checks which host has the address and the service."""
    alive = [host for host in cluster.hosts if cluster.nodes[host].process.poll() is None]
    for host in alive:
        has_address = ADDRESS in cluster.run_on(host, "ip", "-o", "address")
        runs = cluster.nodes[host].run("/etc/init.d/quorate-web", "status")[0] == 0
        if (has_address, runs) != (host == wanted, host == wanted):
            raise Failed(f"host {host} has the address: {has_address}, the service: {runs}; host {wanted} should")
