"""A client of the Kubernetes Container Runtime Interface (runtime.v1): calls over gRPC, streams of exec, attach and
port-forward over WebSocket. Needs python3-grpcio; what is called and how is in the table below."""

import base64
import json
import os
import socket
import struct
import time
from urllib.parse import urlparse

import grpc

import protobuf

MESSAGES = protobuf.table("""
VersionRequest { version=1 }
VersionResponse { version=1 runtime_name=2 runtime_version=3 runtime_api_version=4 }
StatusRequest { verbose=1:bool }
RuntimeCondition { type=1 status=2:bool reason=3 message=4 }
RuntimeStatus { conditions=1:*RuntimeCondition }
HandlerFeatures { recursive_read_only_mounts=1:bool user_namespaces=2:bool }
RuntimeHandler { name=1 features=2:HandlerFeatures }
StatusResponse { status=1:RuntimeStatus runtime_handlers=3:*RuntimeHandler }
Int64 { value=1:int }
IDMapping { host_id=1:int container_id=2:int length=3:int }
UserNamespace { mode=1:int uids=2:*IDMapping gids=3:*IDMapping }
NamespaceOption { network=1:int pid=2:int ipc=3:int target_id=4 userns_options=5:UserNamespace }
SecurityProfile { profile_type=1:int localhost_ref=2 }
SandboxSecurity { namespace_options=1:NamespaceOption run_as_user=3:Int64 readonly_rootfs=4:bool
    supplemental_groups=5:*int privileged=6:bool run_as_group=8:Int64 seccomp=9:SecurityProfile }
LinuxPod { cgroup_parent=1 security_context=2:SandboxSecurity sysctls=3:map }
DNSConfig { servers=1:* searches=2:* options=3:* }
PortMapping { protocol=1:int container_port=2:int host_port=3:int host_ip=4 }
PodMetadata { name=1 uid=2 namespace=3 attempt=4:int }
PodConfig { metadata=1:PodMetadata hostname=2 log_directory=3 dns_config=4:DNSConfig port_mappings=5:*PortMapping
    labels=6:map annotations=7:map linux=8:LinuxPod }
RunPodSandboxRequest { config=1:PodConfig runtime_handler=2 }
RunPodSandboxResponse { pod_sandbox_id=1 }
StopPodSandboxRequest { pod_sandbox_id=1 }
StopPodSandboxResponse { }
RemovePodSandboxRequest { pod_sandbox_id=1 }
RemovePodSandboxResponse { }
PodSandboxStatusRequest { pod_sandbox_id=1 verbose=2:bool }
PodNetwork { ip=1 }
PodStatus { id=1 metadata=2:PodMetadata state=3:int network=5:PodNetwork labels=7:map annotations=8:map runtime_handler=9 }
PodSandboxStatusResponse { status=1:PodStatus info=2:map }
ListPodSandboxRequest { }
Pod { id=1 metadata=2:PodMetadata state=3:int labels=5:map runtime_handler=7 }
ListPodSandboxResponse { items=1:*Pod }
ImageSpec { image=1 }
KeyValue { key=1 value=2 }
Mount { container_path=1 host_path=2 readonly=3:bool propagation=5:int uidMappings=6:*IDMapping gidMappings=7:*IDMapping
    recursive_read_only=8:bool }
Device { container_path=1 host_path=2 permissions=3 }
Resources { cpu_period=1:int cpu_quota=2:int cpu_shares=3:int memory_limit_in_bytes=4:int oom_score_adj=5:int cpuset_cpus=6
    cpuset_mems=7 unified=9:map }
Capability { add_capabilities=1:* drop_capabilities=2:* }
ContainerSecurity { capabilities=1:Capability privileged=2:bool namespace_options=3:NamespaceOption run_as_user=5:Int64
    run_as_username=6 readonly_rootfs=7:bool supplemental_groups=8:*int no_new_privs=11:bool run_as_group=12:Int64
    masked_paths=13:* readonly_paths=14:* seccomp=15:SecurityProfile }
LinuxContainer { resources=1:Resources security_context=2:ContainerSecurity }
ContainerMetadata { name=1 attempt=2:int }
ContainerConfig { metadata=1:ContainerMetadata image=2:ImageSpec command=3:* args=4:* working_dir=5 envs=6:*KeyValue
    mounts=7:*Mount devices=8:*Device labels=9:map annotations=10:map log_path=11 stdin=12:bool stdin_once=13:bool tty=14:bool
    linux=15:LinuxContainer }
CreateContainerRequest { pod_sandbox_id=1 config=2:ContainerConfig sandbox_config=3:PodConfig }
CreateContainerResponse { container_id=1 }
StartContainerRequest { container_id=1 }
StartContainerResponse { }
StopContainerRequest { container_id=1 timeout=2:int }
StopContainerResponse { }
RemoveContainerRequest { container_id=1 }
RemoveContainerResponse { }
ListContainersRequest { }
Container { id=1 pod_sandbox_id=2 metadata=3:ContainerMetadata state=6:int }
ListContainersResponse { containers=1:*Container }
ContainerStatusRequest { container_id=1 verbose=2:bool }
ContainerStatus { id=1 metadata=2:ContainerMetadata state=3:int exit_code=7:int reason=10 message=11 labels=12:map }
ContainerStatusResponse { status=1:ContainerStatus info=2:map }
UpdateContainerResourcesRequest { container_id=1 linux=2:Resources }
UpdateContainerResourcesResponse { }
ReopenContainerLogRequest { container_id=1 }
ReopenContainerLogResponse { }
ExecSyncRequest { container_id=1 cmd=2:* timeout=3:int }
ExecSyncResponse { stdout=1:bytes stderr=2:bytes exit_code=3:int }
ExecRequest { container_id=1 cmd=2:* tty=3:bool stdin=4:bool stdout=5:bool stderr=6:bool }
ExecResponse { url=1 }
AttachRequest { container_id=1 stdin=2:bool tty=3:bool stdout=4:bool stderr=5:bool }
AttachResponse { url=1 }
PortForwardRequest { pod_sandbox_id=1 port=2:*int }
PortForwardResponse { url=1 }
ContainerStatsRequest { container_id=1 }
UInt64 { value=1:int }
CpuUsage { usage_core_nano_seconds=2:UInt64 }
MemoryUsage { working_set_bytes=2:UInt64 }
ContainerStats { cpu=2:CpuUsage memory=3:MemoryUsage }
ContainerStatsResponse { stats=1:ContainerStats }
CheckpointContainerRequest { container_id=1 location=2 timeout=3:int }
CheckpointContainerResponse { }
""")
POD, CONTAINER, NODE, TARGET = range(4)
READY, NOT_READY = range(2)
CREATED, RUNNING, EXITED = range(3)
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = range(3)


class CallFailed(Exception):
    def __init__(self, code, details):
        super().__init__(f"{code}: {details}")
        self.code, self.details = code, details


class Client:
    def __init__(self, path):
        self.channel = grpc.insecure_channel("unix://" + path)

    def call(self, method, values=None, timeout=60):
        function = self.channel.unary_unary(
            "/runtime.v1.RuntimeService/" + method,
            request_serializer=lambda v: protobuf.encode(MESSAGES, method + "Request", v),
            response_deserializer=lambda data: protobuf.decode(MESSAGES, method + "Response", data))
        try:
            return function(values or {}, timeout=timeout)
        except grpc.RpcError as e:
            raise CallFailed(e.code().name, e.details()) from None

    def close(self):
        self.channel.close()


class Stream:
    """One stream by WebSocket, whose messages begin with the number of their channel: standard input, output and error, the
    result as JSON, the size of the terminal. A port-forward has a pair of data and error for each port; the first message of
    each is the port."""

    def __init__(self, url, timeout=30):
        parts = urlparse(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout)
        path = parts.path + ("?" + parts.query if parts.query else "")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n").encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self._fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise CallFailed("HTTP", head.split(b"\r\n")[0].decode() + " " + self.buffer.decode(errors="replace"))
        self.seen = {}  # channel -> bytes
        self.ended = False

    def _fill(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def _take(self, count):
        while len(self.buffer) < count:
            self._fill()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def _frame(self, kind, data):
        mask = os.urandom(4)
        size = len(data)
        head = bytes([0x80 | kind]) + (bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack(">H", size))
        self.socket.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def send(self, data, channel=0):
        self._frame(2, bytes([channel]) + data)

    def resize(self, rows, columns):
        self.send(json.dumps({"Width": columns, "Height": rows}).encode(), 4)

    def read(self):
        """Reads one message; false at the end."""
        try:
            first, second = self._take(2)
            size = second & 127
            if size == 126:
                (size,) = struct.unpack(">H", self._take(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self._take(8))
            data = self._take(size)
        except (EOFError, ConnectionError):
            self.ended = True
            return False
        if first & 15 == 8:
            self.ended = True
            return False
        if first & 15 in (0, 1, 2) and data:
            self.seen[data[0]] = self.seen.get(data[0], b"") + data[1:]
        return True

    def until(self, pattern, channel=1, timeout=30):
        """Reads until the channel has the bytes; false if it never did."""
        end = time.monotonic() + timeout
        while pattern not in self.seen.get(channel, b""):
            if time.monotonic() > end or not self.read():
                return False
        return True

    def finish(self, timeout=30):
        """-> (output, error output, exit code)"""
        self.socket.settimeout(timeout)
        while not self.ended:
            self.read()
        self.close()
        return self.seen.get(1, b"").decode(), self.seen.get(2, b"").decode(), self.code()

    def code(self):
        status = json.loads(self.seen.get(3, b"") or b"{}")
        if status.get("status") == "Success":
            return 0
        for cause in (status.get("details") or {}).get("causes") or []:
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        return status.get("message", "no status")

    def close(self):
        self.socket.close()
