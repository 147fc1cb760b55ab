"""The files that TF Serving needs and those of what stands around it, rendered from one description."""

from serving.deploy.plan import Plan, Server, make_plan
from serving.deploy.render import render
from serving.deploy.write import Written, write

__all__ = ["Plan", "Server", "Written", "make_plan", "render", "write"]
