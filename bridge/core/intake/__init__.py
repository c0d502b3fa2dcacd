"""What every request passes, whichever engine answers it: ids, rules, limits, record and bill."""

from bridge.core.intake.billing import Bills, RequestBill
from bridge.core.intake.requests import Answerer, Answering, Requests
from bridge.core.intake.serving import ServesRequests

__all__ = ["Answerer", "Answering", "Bills", "RequestBill", "Requests", "ServesRequests"]
