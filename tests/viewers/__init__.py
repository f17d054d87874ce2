"""What real viewers show of the results: ``make viewers``, not part of the suite."""
