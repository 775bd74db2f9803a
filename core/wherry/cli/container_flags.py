"""The flags of `run` and `create`: what a container is to be. docker's names, types and words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from wherry.cli.flags import NOT_GIVEN, flag

Many = list[str]


@dataclass
class ContainerFlags:
    """In the order of `--help`. A list that was not given is empty, a number that was not given None."""

    name: Annotated[str, flag("--name", help="Assign a name to the container")] = ""
    interactive: Annotated[bool, flag("-i", "--interactive", help="Keep stdin open")] = False
    tty: Annotated[bool, flag("-t", "--tty", help="Allocate a terminal")] = False
    attach: Annotated[Many, flag("-a", "--attach", help="Attach to stdin, stdout or stderr")] = NOT_GIVEN
    env: Annotated[Many, flag("-e", "--env", help="Set a variable; NAME alone takes ours")] = NOT_GIVEN
    env_file: Annotated[Many, flag("--env-file", help="Read variables from a file")] = NOT_GIVEN
    label: Annotated[Many, flag("-l", "--label", help="Set a label")] = NOT_GIVEN
    label_file: Annotated[Many, flag("--label-file", help="Read labels from a file")] = NOT_GIVEN
    annotation: Annotated[Many, flag("--annotation", help="Set an annotation")] = NOT_GIVEN
    user: Annotated[str, flag("-u", "--user", help="Name or uid [:group or gid]")] = ""
    workdir: Annotated[str, flag("-w", "--workdir", help="Working directory inside the container")] = ""
    entrypoint: Annotated[str | None, flag("--entrypoint", help="Overwrite the image's entrypoint")] = None
    hostname: Annotated[str, flag("-h", "--hostname", help="Host name of the container")] = ""
    domainname: Annotated[str, flag("--domainname", help="Domain name of the container")] = ""
    init: Annotated[bool, flag("--init", help="Run an init that forwards signals and reaps processes")] = (
        False
    )
    stop_signal: Annotated[str, flag("--stop-signal", help="Signal to stop the container")] = ""
    stop_timeout: Annotated[int | None, flag("--stop-timeout", help="Seconds before a stop insists")] = None
    restart: Annotated[str, flag("--restart", help="no, always, unless-stopped or on-failure[:times]")] = "no"
    rm: Annotated[bool, flag("--rm", help="Remove the container when it exits")] = False
    cidfile: Annotated[str, flag("--cidfile", help="Write the container's id to this file")] = ""
    platform: Annotated[str, flag("--platform", help="os/architecture of the image")] = ""
    pull: Annotated[str, flag("--pull", help="always, missing or never")] = "missing"
    quiet: Annotated[bool, flag("-q", "--quiet", help="Do not show how a pull gets on")] = False

    volume: Annotated[Many, flag("-v", "--volume", help="Mount /host/path:/path[:ro] or name:/path")] = (
        NOT_GIVEN
    )
    mount: Annotated[Many, flag("--mount", help="type=bind|volume|tmpfs,source=…,target=…[,readonly]")] = (
        NOT_GIVEN
    )
    tmpfs: Annotated[Many, flag("--tmpfs", help="Mount a tmpfs: /path[:options]")] = NOT_GIVEN
    volumes_from: Annotated[Many, flag("--volumes-from", help="Mount a container's volumes")] = NOT_GIVEN
    volume_driver: Annotated[str, flag("--volume-driver", help="Volume driver")] = ""
    read_only: Annotated[bool, flag("--read-only", help="Mount the root file system read-only")] = False
    shm_size: Annotated[str, flag("--shm-size", help="Size of /dev/shm")] = ""
    storage_opt: Annotated[Many, flag("--storage-opt", help="Storage driver options")] = NOT_GIVEN
    network: Annotated[Many, flag("--network", "--net", help="bridge, host, none, container:X or a name")] = (
        NOT_GIVEN
    )
    network_alias: Annotated[Many, flag("--network-alias", "--net-alias", help="Another name in it")] = (
        NOT_GIVEN
    )
    publish: Annotated[Many, flag("-p", "--publish", help="[[address:]port:]port[/protocol]")] = NOT_GIVEN
    publish_all: Annotated[bool, flag("-P", "--publish-all", help="Publish every exposed port")] = False
    expose: Annotated[Many, flag("--expose", help="Expose a port or a range")] = NOT_GIVEN
    link: Annotated[Many, flag("--link", help="Link to a container: name[:alias]")] = NOT_GIVEN
    ip: Annotated[str, flag("--ip", help="IPv4 address")] = ""
    ip6: Annotated[str, flag("--ip6", help="IPv6 address")] = ""
    link_local_ip: Annotated[Many, flag("--link-local-ip", help="Link-local addresses")] = NOT_GIVEN
    mac_address: Annotated[str, flag("--mac-address", help="MAC address")] = ""
    dns: Annotated[Many, flag("--dns", help="Name server")] = NOT_GIVEN
    dns_search: Annotated[Many, flag("--dns-search", help="Search domain")] = NOT_GIVEN
    dns_option: Annotated[Many, flag("--dns-option", "--dns-opt", help="resolv.conf option")] = NOT_GIVEN
    add_host: Annotated[Many, flag("--add-host", help="name:address for /etc/hosts")] = NOT_GIVEN
    memory: Annotated[str, flag("-m", "--memory", help="Memory limit: 64m")] = ""
    memory_swap: Annotated[str, flag("--memory-swap", help="Memory and swap; -1: unlimited swap")] = ""
    memory_reservation: Annotated[str, flag("--memory-reservation", help="Soft memory limit")] = ""
    memory_swappiness: Annotated[int | None, flag("--memory-swappiness", help="0 to 100")] = None
    kernel_memory: Annotated[str, flag("--kernel-memory", help="Kernel memory limit", hidden=True)] = ""
    oom_kill_disable: Annotated[bool, flag("--oom-kill-disable", help="Do not kill for lack of memory")] = (
        False
    )
    oom_score_adj: Annotated[int, flag("--oom-score-adj", help="-1000 to 1000")] = 0
    cpus: Annotated[str, flag("--cpus", help="Number of CPUs: 1.5")] = ""
    cpu_shares: Annotated[int, flag("-c", "--cpu-shares", help="Relative weight")] = 0
    cpu_period: Annotated[int, flag("--cpu-period", help="CFS period, microseconds")] = 0
    cpu_quota: Annotated[int, flag("--cpu-quota", help="CFS quota, microseconds")] = 0
    cpu_rt_period: Annotated[int, flag("--cpu-rt-period", help="Real-time period, microseconds")] = 0
    cpu_rt_runtime: Annotated[int, flag("--cpu-rt-runtime", help="Real-time runtime, microseconds")] = 0
    cpuset_cpus: Annotated[str, flag("--cpuset-cpus", help="Which CPUs: 0-3 or 0,1")] = ""
    cpuset_mems: Annotated[str, flag("--cpuset-mems", help="Which memory nodes")] = ""
    pids_limit: Annotated[int | None, flag("--pids-limit", help="Number of processes; -1: no limit")] = None
    ulimit: Annotated[Many, flag("--ulimit", help="name=soft[:hard]")] = NOT_GIVEN
    blkio_weight: Annotated[int, flag("--blkio-weight", help="10 to 1000")] = 0
    blkio_weight_device: Annotated[Many, flag("--blkio-weight-device", help="device:weight")] = NOT_GIVEN
    device_read_bps: Annotated[Many, flag("--device-read-bps", help="device:rate")] = NOT_GIVEN
    device_write_bps: Annotated[Many, flag("--device-write-bps", help="device:rate")] = NOT_GIVEN
    device_read_iops: Annotated[Many, flag("--device-read-iops", help="device:rate")] = NOT_GIVEN
    device_write_iops: Annotated[Many, flag("--device-write-iops", help="device:rate")] = NOT_GIVEN
    cgroup_parent: Annotated[str, flag("--cgroup-parent", help="Parent of the container's cgroup")] = ""

    privileged: Annotated[bool, flag("--privileged", help="Give the container everything")] = False
    cap_add: Annotated[Many, flag("--cap-add", help="Add a capability, or ALL")] = NOT_GIVEN
    cap_drop: Annotated[Many, flag("--cap-drop", help="Drop a capability, or ALL")] = NOT_GIVEN
    security_opt: Annotated[
        Many, flag("--security-opt", help="no-new-privileges, seccomp=, apparmor=, label=")
    ] = NOT_GIVEN
    group_add: Annotated[Many, flag("--group-add", help="Supplementary group")] = NOT_GIVEN
    device: Annotated[Many, flag("--device", help="/dev/x[:/dev/y[:rwm]]")] = NOT_GIVEN
    device_cgroup_rule: Annotated[Many, flag("--device-cgroup-rule", help="c 1:3 rwm")] = NOT_GIVEN
    sysctl: Annotated[Many, flag("--sysctl", help="name=value")] = NOT_GIVEN
    pid: Annotated[str, flag("--pid", help="Process namespace: host or container:X")] = ""
    ipc: Annotated[str, flag("--ipc", help="IPC: private, shareable, none, host or container:X")] = ""
    uts: Annotated[str, flag("--uts", help="UTS namespace: host")] = ""
    userns: Annotated[str, flag("--userns", help="User namespace: host")] = ""
    cgroupns: Annotated[str, flag("--cgroupns", help="cgroup namespace: host or private")] = ""

    exec_driver: Annotated[str, flag("--exec-driver", "--runtime", help="How to run the container")] = ""
    log_driver: Annotated[str, flag("--log-driver", help="Where output goes")] = ""
    log_opt: Annotated[Many, flag("--log-opt", help="name=value for the log driver")] = NOT_GIVEN
    health_cmd: Annotated[str, flag("--health-cmd", help="Command that asks whether it is well")] = ""
    health_interval: Annotated[str, flag("--health-interval", help="Time between questions: 30s")] = ""
    health_retries: Annotated[int, flag("--health-retries", help="How many failures make it unhealthy")] = 0
    health_timeout: Annotated[str, flag("--health-timeout", help="How long one question may take")] = ""
    health_start_period: Annotated[str, flag("--health-start-period", help="Time to get well at first")] = ""
    health_start_interval: Annotated[
        str, flag("--health-start-interval", help="Time between first questions")
    ] = ""
    no_healthcheck: Annotated[bool, flag("--no-healthcheck", help="Do not ask")] = False
    disable_content_trust: Annotated[bool, flag("--disable-content-trust", help="", hidden=True)] = True
