"""Log driver `syslog`: lines go to the syslog daemon, here or elsewhere.

options     what a user may set
message     a batch → messages in one of the formats
connection  the socket, and how messages are framed on it
"""

from wherry_syslog_log.driver import SyslogLog

__all__ = ["SyslogLog"]
