"""A container as it was asked for and as it is: the values that front and engine exchange.

Names in JSON are the Engine API's, on the wire and on disk. A field that the client did not send has the default here.
Decoding is strict about types (`msgspec`): a number where a string belongs is the client's fault.
Source: API 1.51 ContainerConfig, HostConfig, NetworkingConfig.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Base of values that travel as JSON in the API's spelling. A change makes a new one: `msgspec.structs.replace`."""


class HealthConfig(Value, frozen=True, kw_only=True):
    """How to ask a container whether it is well. Times in nanoseconds; 0 inherits the image's or the default."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    retries: int = 0
    start_period: int = 0
    start_interval: int = 0


class Config(Value, frozen=True, kw_only=True):
    """What does not depend on the host: API ContainerConfig."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any] | None] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool | None = None
    image: str = ""
    volumes: dict[str, dict[str, Any] | None] | None = None
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool | None = None
    mac_address: str | None = None
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    shell: list[str] | None = None


class PortBinding(Value, frozen=True, kw_only=True):
    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(Value, frozen=True, kw_only=True):
    name: str = ""
    maximum_retry_count: int = 0


class LogConfig(Value, frozen=True, kw_only=True):
    type: str = ""
    config: dict[str, str] | None = None


class DeviceMapping(Value, frozen=True, kw_only=True):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Value, frozen=True, kw_only=True):
    driver: str = ""
    count: int = 0
    device_i_ds: list[str] | None = msgspec.field(default=None, name="DeviceIDs")
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class ThrottleDevice(Value, frozen=True, kw_only=True):
    path: str = ""
    rate: int = 0


class WeightDevice(Value, frozen=True, kw_only=True):
    path: str = ""
    weight: int = 0


class Ulimit(Value, frozen=True, kw_only=True):
    name: str = ""
    soft: int = 0
    hard: int = 0


class BindOptions(Value, frozen=True, kw_only=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeDriverConfig(Value, frozen=True, kw_only=True):
    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(Value, frozen=True, kw_only=True):
    no_copy: bool = False
    labels: dict[str, str] | None = None
    driver_config: VolumeDriverConfig | None = None
    subpath: str = ""


class TmpfsOptions(Value, frozen=True, kw_only=True):
    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class MountRequest(Value, frozen=True, kw_only=True):
    """`--mount`: API Mount."""

    target: str = ""
    source: str = ""
    type: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    image_options: dict[str, Any] | None = None


class HostConfig(Value, frozen=True, kw_only=True):
    """What depends on the host: API HostConfig, limits included. Sizes in bytes, times as the API has them."""

    cpu_shares: int = 0
    memory: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_i_ops: list[ThrottleDevice] | None = msgspec.field(
        default=None, name="BlkioDeviceReadIOps"
    )
    blkio_device_write_i_ops: list[ThrottleDevice] | None = msgspec.field(
        default=None, name="BlkioDeviceWriteIOps"
    )
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    kernel_memory: int = 0
    kernel_memory_tcp: int = msgspec.field(default=0, name="KernelMemoryTCP")
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    nano_cpus: int = 0
    oom_kill_disable: bool | None = None
    init: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = msgspec.field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = msgspec.field(default=0, name="IOMaximumBandwidth")
    binds: list[str] | None = None
    container_id_file: str = msgspec.field(default="", name="ContainerIDFile")
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    mounts: list[MountRequest] | None = None
    console_size: list[int] | None = None
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = msgspec.field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str | None = None
    isolation: str = ""
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    lxc_conf: list[dict[str, str]] | dict[str, str] | None = None


class IPAMChoice(Value, frozen=True, kw_only=True):
    """The addresses that a user wants for an endpoint: API EndpointIPAMConfig."""

    ipv4_address: str = msgspec.field(default="", name="IPv4Address")
    ipv6_address: str = msgspec.field(default="", name="IPv6Address")
    link_local_ips: list[str] | None = msgspec.field(default=None, name="LinkLocalIPs")


class EndpointRequest(Value, frozen=True, kw_only=True):
    """How a container wants to be in a network: the configuration half of API EndpointSettings."""

    ipam_config: IPAMChoice | None = msgspec.field(default=None, name="IPAMConfig")
    links: list[str] | None = None
    mac_address: str = ""
    aliases: list[str] | None = None
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """All of `POST /containers/create`, parsed."""

    name: str = ""
    """Empty: the engine makes one up."""
    platform: str = ""
    config: Config
    host_config: HostConfig = HostConfig()
    networks: dict[str, EndpointRequest] = {}
    read_only_recursive: bool = True
    """Whether a read-only bind is so with all that is mounted below it, where its options do not say: since API 1.44."""


class Created(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    warnings: list[str] = []


Status = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]


class HealthResult(Value, frozen=True, kw_only=True):
    start: str
    end: str
    exit_code: int
    output: str


class Health(Value, frozen=True, kw_only=True):
    status: str
    failing_streak: int = 0
    log: list[HealthResult] = []


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """A container's place in one network as it is now; empty strings while it does not run."""

    network_id: str = ""
    endpoint_id: str = ""
    request: EndpointRequest = EndpointRequest()
    gateway: str = ""
    address: str = ""
    prefix: int = 0
    mac: str = ""
    ipv6: str = ""
    ipv6_prefix: int = 0
    ipv6_gateway: str = ""
    dns_names: list[str] | None = None


class MountPoint(Value, frozen=True, kw_only=True):
    """A volume, bind or tmpfs (of `--mount`) of a container: API MountPoint."""

    type: str
    name: str = ""
    source: str = ""
    destination: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = msgspec.field(default=True, name="RW")
    propagation: str = ""
    request: MountRequest | None = None
    """What it was asked for with, which `inspect` shows elsewhere; None: a volume of the image."""


class ContainerView(msgspec.Struct, frozen=True, kw_only=True):
    """A container as it is: an immutable snapshot, published whole. Times are RFC 3339 with nanoseconds, UTC; the zero
    time is `0001-01-01T00:00:00Z`. `pid` is 0 unless it runs."""

    id: str
    name: str
    """Without the leading slash."""
    created: str
    path: str
    args: list[str]
    image_id: str
    image_name: str
    config: Config
    host_config: HostConfig
    status: Status = "created"
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = "0001-01-01T00:00:00Z"
    finished_at: str = "0001-01-01T00:00:00Z"
    restart_count: int = 0
    health: Health | None = None
    networks: dict[str, EndpointView] = {}
    """By network name."""
    ports: dict[str, list[PortBinding] | None] = {}
    """As published now: `80/tcp` → bindings."""
    sandbox_path: str = ""
    mounts: list[MountPoint] = []
    resolv_conf_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    log_path: str = ""
    storage_driver: str = ""
    exec_driver: str = ""
    log_driver: str = ""
    mount_label: str = ""
    process_label: str = ""
    apparmor_profile: str = ""
    exec_ids: list[str] = []
    storage_data: dict[str, str] = {}
    directory: str = ""
