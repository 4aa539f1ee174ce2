"""The functions of openhands_rt_skills, by the name that agents of OpenHands import them."""

from openhands_rt_skills import *  # noqa: F403
from openhands_rt_skills import DOCUMENTATION, __all__  # noqa: F401
