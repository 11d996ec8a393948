"""What lives in a page: the monitor of all runs, and the card of one.

They are given their manager, which has never heard of them. Data flows one way: manager → `feed`
(what changed, as rows) → `rate` (how often) → `monitor` (the widget) → the modules in ``page/``;
back come only wishes, which the widget hands to the manager.
"""
