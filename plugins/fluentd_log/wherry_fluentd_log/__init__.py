"""Log driver fluentd: lines go to Fluentd or Fluent Bit."""

from wherry_fluentd_log.driver import FluentdLog

__all__ = ["FluentdLog"]
