"""Log driver gelf: lines go to Graylog, Logstash and others that take GELF."""

from wherry_gelf_log.driver import GelfLog

__all__ = ["GelfLog"]
