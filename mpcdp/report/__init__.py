"""A session's report: one HTML page that an owner can show its data-protection officer.

`facts` gathers what is known from an owner's own files, `pictures` draws, `page.html` is the page. Nothing in it is
computed from private records: it shows the released model, its privacy, this owner's ledger, and figures on public
test data if the owner has some.
"""

from mpcdp.report.facts import Facts, gather
from mpcdp.report.page import render

__all__ = ["Facts", "gather", "render"]
