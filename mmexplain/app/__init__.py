"""The app: all verbs in a browser, for people and for programs. Needs the extra ``app`` (Gradio).

``mmexplain app`` starts it. :mod:`~mmexplain.app.asked` says what can be asked, :mod:`~mmexplain.app.desk` answers it
with the models of :mod:`~mmexplain.app.shelf`; none of these knows Gradio. :mod:`~mmexplain.app.page` is what people
see, :mod:`~mmexplain.app.api` what programs call.
"""
