"""The most confidently wrong photos, with maps of what was predicted and of what is there."""

from mmexplain.studies.failures.study import Failures, failures

__all__ = ["Failures", "failures"]
