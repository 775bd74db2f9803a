"""Every verb of the command line: where its function is, and what it does, in one line for `wherry --help`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Verb:
    """`function` in `wherry.cli.<module>`. `program`: what follows the first argument belongs to another program."""

    module: str
    function: str
    help: str
    program: bool = False


VERBS: Final[dict[str, Verb]] = {
    "run": Verb("run", "run", "Create and run a new container from an image", True),
    "exec": Verb("execute", "execute", "Execute a command in a running container", True),
    "ps": Verb("containers", "ps", "List containers"),
    "create": Verb("run", "create", "Create a new container", True),
    "start": Verb("attach", "start", "Start one or more stopped containers"),
    "stop": Verb("containers", "stop", "Stop one or more running containers"),
    "restart": Verb("containers", "restart", "Restart one or more containers"),
    "kill": Verb("containers", "kill", "Kill one or more running containers"),
    "wait": Verb("containers", "wait", "Block until containers stop, then print their exit codes"),
    "rm": Verb("containers", "rm", "Remove one or more containers"),
    "pause": Verb("containers", "pause", "Pause all processes within one or more containers"),
    "unpause": Verb("containers", "unpause", "Unpause all processes within one or more containers"),
    "rename": Verb("containers", "rename", "Rename a container"),
    "update": Verb("update", "update", "Change the limits of one or more containers"),
    "attach": Verb("attach", "attach", "Attach your stdin, stdout and stderr to a running container"),
    "logs": Verb("watch", "logs", "Fetch the logs of a container"),
    "top": Verb("containers", "top", "Display the running processes of a container", True),
    "port": Verb("containers", "port", "List port mappings of a container"),
    "stats": Verb("watch", "stats", "Display a live stream of containers' resource usage"),
    "inspect": Verb("inspect", "inspect", "Show all that is known about containers, images or networks"),
    "diff": Verb("containers", "diff", "List what a container changed in its file system"),
    "cp": Verb("copy", "cp", "Copy files between a container and this machine"),
    "export": Verb("containers", "export", "Export a container's file system as a tar archive"),
    "images": Verb("images", "images", "List images"),
    "import": Verb("images", "import_", "Make an image from a tar archive of a file system"),
    "load": Verb("images", "load", "Load images from a tar archive"),
    "save": Verb("images", "save", "Save images to a tar archive"),
    "tag": Verb("images", "tag", "Give an image another name"),
    "rmi": Verb("images", "rmi", "Remove one or more images"),
    "history": Verb("images", "history", "Show how an image was made"),
    "network ls": Verb("networks", "ls", "List networks"),
    "network create": Verb("networks", "create", "Create a network"),
    "network rm": Verb("networks", "rm", "Remove one or more networks"),
    "network prune": Verb("networks", "prune", "Remove networks that no running container is in"),
    "network inspect": Verb("networks", "inspect", "Show all that is known about networks"),
    "network connect": Verb("networks", "connect", "Connect a container to a network"),
    "network disconnect": Verb("networks", "disconnect", "Disconnect a container from a network"),
    "events": Verb("watch", "events", "Print what happens in the engine, as it happens"),
    "info": Verb("system", "info", "Display what the engine is and has"),
    "version": Verb("system", "version", "Show the versions of client and daemon"),
    "drivers": Verb("drivers", "drivers", "List all drivers: in use, available, broken and why"),
    "doctor": Verb("doctor", "doctor", "Say what this machine offers and lacks, and what to do about it"),
    "daemon": Verb("daemon", "daemon", "Run the engine"),
}

ALIASES: Final[dict[str, str]] = {
    **{
        f"container {verb}": verb
        for verb in """run exec create start stop restart kill wait rm pause unpause rename update attach logs top port
        stats inspect diff cp export""".split()
    },
    "container ls": "ps",
    "container list": "ps",
    "container ps": "ps",
    "image ls": "images",
    "image list": "images",
    "image rm": "rmi",
    "image import": "import",
    "image load": "load",
    "image save": "save",
    "image tag": "tag",
    "image history": "history",
    "image inspect": "inspect",
    "network list": "network ls",
    "network remove": "network rm",
    "system info": "info",
    "system events": "events",
}

NOT_HERE: Final[dict[str, str]] = {
    "build": "build elsewhere and bring the image with `wherry load`",
    "buildx": "build elsewhere and bring the image with `wherry load`",
    "builder": "build elsewhere and bring the image with `wherry load`",
    "pull": "get the image as an archive (`skopeo copy docker://… docker-archive:x.tar`) and `wherry load -i x.tar`",
    "push": "`wherry save` the image and push the archive with skopeo",
    "search": "search in the registry's own pages",
    "login": "there is no registry client yet; see `wherry load`",
    "logout": "there is no registry client yet; see `wherry load`",
    "commit": "`wherry export` the container and `wherry import` the archive",
    "volume": "name a host directory: `-v /path:/path`",
    "compose": "use docker-compose with DOCKER_HOST set to wherry's socket",
    "swarm": "an engine runs the containers of one machine",
    "service": "an engine runs the containers of one machine",
    "stack": "an engine runs the containers of one machine",
    "node": "an engine runs the containers of one machine",
    "secret": "mount a file: `-v /path/secret:/run/secrets/name:ro`",
    "config": "mount a file: `-v /path/config:/etc/name:ro`",
    "plugin": "a driver is a Python distribution: `pip install` it, see `wherry drivers`",
    "checkpoint": "there is no checkpointing",
    "context": "name the daemon with -H or WHERRY_HOST",
    "trust": "there is no content trust",
    "manifest": "there is no registry client yet",
}
