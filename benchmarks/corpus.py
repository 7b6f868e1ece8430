"""Real-life crontab expressions: what distributions ship, manuals show and services run.

Each means the same to tocsin, APScheduler, cronsim and croniter, so that all find the same fire
times: weekdays are written as names, for APScheduler counts them from Monday, and no expression
restricts day and weekday at once, for it takes both and cron either.
"""

from __future__ import annotations

CORPUS: dict[str, str] = {
    # Monitoring, queues, mail
    "* * * * *": "every minute",
    "*/2 * * * *": "poll a queue",
    "*/5 * * * *": "sysstat, munin, mrtg",
    "*/10 * * * *": "sysstat's sa1",
    "*/15 * * * *": "a Nextcloud job",
    "*/20 * * * *": "renew a token",
    "0,30 * * * *": "each half hour",
    "5-55/10 * * * *": "sa1 as Debian ships it",
    "*/5 9-17 * * mon-fri": "poll in office hours",
    "* 8-18 * * mon-fri": "market data",
    "*/10 22,23,0-5 * * *": "batch by night",
    # Hourly
    "0 * * * *": "@hourly",
    "17 * * * *": "Debian's cron.hourly",
    "9,39 * * * *": "PHP's session clean-up",
    "0 */2 * * *": "each second hour",
    "0 */6 * * *": "import a feed",
    "0 0,12 * * *": "certbot",
    "0 9-17 * * mon-fri": "each hour of work",
    # Daily
    "0 0 * * *": "@daily",
    "25 6 * * *": "Debian's cron.daily",
    "30 2 * * *": "a backup, in Berlin's gap",
    "0 3 * * *": "vacuum a database",
    "15 10 * * *": "a mail each morning",
    "59 23 * * *": "close the day's books",
    "0 8 * * mon-fri": "a report each working day",
    "45 17 * * mon,wed,fri": "three times a week",
    # Weekly
    "0 0 * * sun": "@weekly",
    "47 6 * * sun": "Debian's cron.weekly",
    "0 4 * * sat": "a full backup",
    "30 7 * * mon": "plan the week",
    # Monthly and rarer
    "0 0 1 * *": "@monthly",
    "52 6 1 * *": "Debian's cron.monthly",
    "0 0 1,15 * *": "payroll",
    "0 2 28 * *": "invoices",
    "0 9 1 */3 *": "each quarter",
    "0 12 1 jan,jul *": "each half year",
    "0 0 1 1 *": "@yearly",
    "0 6 24 12 *": "Christmas Eve",
    "0 0 31 * *": "the months of 31 days",
    "0 0 29 2 *": "leap days",
}
