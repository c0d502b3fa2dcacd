"""What the Responses API owes to OpenAI's clients, a sentence each, with the tests that show it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.integration.requirements.chat import Requirement

_AGENTS = "tests/clients/test_openai_agents.py"
_NAMES = "tests/unit/core/engine/planning/test_field_names.py"
_APP = "tests/unit/http_server/openai/responses/test_routes.py"
_BACKGROUND = "tests/unit/http_server/openai/responses/background/test_responses.py"
_CLIENT = "tests/clients/test_openai_responses.py"
_COMPACTED = "tests/unit/http_server/openai/responses/compaction/test_answers.py"
_CONVERSATIONS = "tests/unit/http_server/openai/responses/conversations/test_routes.py"
_COUNTING = "tests/unit/http_server/openai/responses/test_counting.py"
_DECODE = "tests/unit/http_server/openai/responses/test_decode.py"
_ENCODE = "tests/unit/http_server/openai/responses/test_encode.py"
_SCHEMATHESIS = "tests/integration/http_server/test_schemathesis.py"
_SQLITE = "tests/unit/core/answers/test_sqlite.py"
_STORE = "tests/unit/core/answers/test_store.py"
_SYSTEM = "tests/integration/prompts/test_system_messages.py"

_HONOURED = f"{_DECODE}::test_what_is_honoured_reaches_the_core"
_IGNORED = f"{_DECODE}::test_what_has_no_effect_is_named"
_NEUTRAL = f"{_DECODE}::test_what_changes_nothing_passes_without_a_word"
_REFUSED = f"{_DECODE}::test_what_cannot_be_done_is_refused"
_WRONG = f"{_DECODE}::test_a_wrong_value_names_its_field"
_IN_ORDER = f"{_CLIENT}::test_every_event_of_a_stream_is_in_order"
_ANY_ANSWER = f"{_ENCODE}::test_any_answer_is_encoded_in_order_and_completely"


def _shown(says: str, *tests: str) -> Requirement:
    return Requirement(says, tests)


PARAMETERS = {
    "responses.param.all_known": _shown(
        "Every parameter of the official client's responses has a treatment.",
        f"{_DECODE}::test_the_table_knows_every_parameter_of_the_client",
        f"{_DECODE}::test_every_parameter_has_a_row_in_the_tests_of_its_treatment",
    ),
    "responses.param.null_is_absent": _shown(
        "Null, defaults and mere hints pass without a word, strict or not.", _NEUTRAL
    ),
    "responses.param.unknown_is_named": _shown(
        "What has no effect on a response is named in the reply.",
        _IGNORED,
        f"{_APP}::test_what_was_ignored_is_named_in_a_header",
    ),
    "responses.param.strict": _shown(
        "In strict mode what would be ignored of a response's request is a 400.",
        f"{_DECODE}::test_what_has_no_effect_is_an_error_in_strict_mode",
        f"{_APP}::test_strict_mode",
    ),
    "responses.param.wrong": _shown(
        "A wrong value is a 400 that names its field as this API spells it.",
        _WRONG,
        f"{_NAMES}::test_the_fault_of_a_schema_is_blamed_by_its_name",
        f"{_NAMES}::test_a_refusal_of_the_api_is_blamed_by_its_name",
        f"{_CLIENT}::test_errors_are_the_clients_own",
    ),
    "responses.param.model": _shown(
        "The `model` of a response is the full name of the one that answered.",
        f"{_CLIENT}::test_a_response_is_made",
    ),
    "responses.param.instructions": _shown(
        "Instructions are the system prompt, before leading system and developer messages.",
        _HONOURED,
        f"{_DECODE}::test_instructions_come_before_leading_system_and_developer_messages",
        f"{_CLIENT}::test_a_response_is_made",
    ),
    "responses.input.system": _shown(
        "A later system or developer message keeps its place, also after `previous_response_id`.",
        f"{_DECODE}::test_a_later_system_or_developer_message_keeps_its_place",
        f"{_DECODE}::test_a_system_message_after_what_was_kept_keeps_its_place",
        f"{_SYSTEM}::test_a_response_after_another_has_it_in_its_place",
        f"{_SYSTEM}::test_every_api_gives_the_model_the_same",
    ),
    "responses.param.max_output_tokens": _shown(
        "`max_output_tokens` reaches the model.",
        _HONOURED,
        f"{_CLIENT}::test_settings_reach_the_model_and_a_limit_leaves_it_incomplete",
    ),
    "responses.param.sampling": _shown("`temperature` and `top_p` reach the core.", _HONOURED),
    "responses.param.reasoning": _shown(
        "`reasoning` sets the effort, and a summary asks for reasoning items.",
        _HONOURED,
        f"{_CLIENT}::test_settings_reach_the_model_and_a_limit_leaves_it_incomplete",
        _IN_ORDER,
        f"{_AGENTS}::test_a_run_is_streamed",
    ),
    "responses.param.text_format": _shown(
        "`text.format` gives an answer of JSON, by a schema or without.",
        _HONOURED,
        f"{_CLIENT}::test_an_answer_is_parsed",
        f"{_AGENTS}::test_an_output_of_a_type",
    ),
    "responses.param.include": _shown(
        "`include` takes what OpenAI knows, empty too, and refuses what is data that there is not.",
        _NEUTRAL,
        _REFUSED,
    ),
    "responses.param.metadata": _shown(
        "Metadata comes back with the response.",
        f"{_APP}::test_a_response_is_answered_whole",
        f"{_DECODE}::test_the_reply_repeats_what_was_asked",
    ),
    "responses.param.background": _shown(
        "A response in the background goes on without its client, and must be stored; prompt "
        "templates are refused.",
        f"{_BACKGROUND}::test_a_response_is_queued_then_in_progress_then_complete",
        f"{_BACKGROUND}::test_a_response_must_be_stored",
        _REFUSED,
    ),
    "responses.other_api": _shown(
        "A body for chat completions is told where to go, and the other way round.",
        f"{_APP}::test_a_body_of_the_other_api_is_refused_with_the_right_url",
        f"{_DECODE}::test_a_body_for_chat_completions_is_refused_with_the_right_url",
    ),
    "responses.wrong_method": _shown(
        "A URL with several methods names all of them to one that it does not take.",
        f"{_APP}::test_a_wrong_method_is_refused_with_the_supported_ones",
    ),
    "responses.any_request": _shown(
        "Any request that the description allows is answered as it says.",
        f"{_SCHEMATHESIS}::test_anything_on_a_fake",
        f"{_SCHEMATHESIS}::test_what_is_sensible_on_a_fake",
        f"{_SCHEMATHESIS}::test_what_is_sensible_on_the_simulator",
    ),
}

TOOLS = {
    "responses.tools.flat": _shown(
        "Function tools and the choice among them are flat.",
        _HONOURED,
        f"{_DECODE}::test_tool_choices",
    ),
    "responses.tools.called": _shown(
        "Parallel calls are made, and their outputs lead to an answer.",
        f"{_CLIENT}::test_a_loop_of_tools",
        f"{_CLIENT}::test_a_loop_of_tools_by_items_alone",
        f"{_AGENTS}::test_an_agent_calls_its_tools",
        f"{_AGENTS}::test_a_conversation_is_handed_to_another_agent",
    ),
    "responses.tools.forced": _shown(
        "A forced call is made, and only one if so asked.", f"{_CLIENT}::test_a_forced_call"
    ),
    "responses.tools.hosted": _shown(
        "Tools that OpenAI hosts are refused by their name, and so are their items.",
        _REFUSED,
        f"{_DECODE}::test_what_is_not_hosted_is_refused_by_its_name",
        f"{_CLIENT}::test_errors_are_the_clients_own",
        f"{_AGENTS}::test_a_hosted_tool_is_ignored_and_refused_in_strict_mode",
    ),
}

INPUT = {
    "responses.input.text": _shown("A text is a message of the user's.", _HONOURED),
    "responses.input.messages": _shown(
        "Messages come with a type and without, as text and as parts, of all four roles.",
        f"{_DECODE}::test_messages_of_the_user",
        f"{_DECODE}::test_messages_of_the_assistant",
        f"{_DECODE}::test_an_empty_assistant_message_is_not_a_fault",
    ),
    "responses.input.media": _shown(
        "Images and files arrive, by data or by address.",
        f"{_DECODE}::test_messages_of_the_user",
        f"{_DECODE}::test_parts_that_cannot_be_used",
        f"{_DECODE}::test_an_image_in_an_instruction_is_an_error",
        f"{_CLIENT}::test_images_and_files_arrive",
    ),
    "responses.input.calls": _shown(
        "Calls and outputs become turns; an output may have text and images.",
        f"{_DECODE}::test_calls_and_their_outputs_are_turns",
    ),
    "responses.input.matched": _shown(
        "A call without its output, or an output without its call, is a 400 that names it.",
        f"{_DECODE}::test_calls_and_outputs_must_match",
        f"{_DECODE}::test_a_call_of_the_past_wants_its_output_in_the_input",
        f"{_APP}::test_outputs_answer_the_calls_of_the_response_before",
        f"{_APP}::test_what_the_assistant_said_since_comes_with_the_outputs",
        f"{_CLIENT}::test_the_assistants_words_come_with_the_outputs_of_a_response_before",
    ),
    "responses.input.reasoning": _shown(
        "Reasoning items are taken, and need not be there.",
        f"{_DECODE}::test_calls_and_their_outputs_are_turns",
        f"{_AGENTS}::test_a_run_continues_from_its_own_items",
    ),
    "responses.input.cut_call": _shown(
        "A call that a limit cut off is left out, with its output if it has one.",
        f"{_DECODE}::test_a_call_that_was_cut_off_was_not_made_where_nothing_came_of_it",
        f"{_DECODE}::test_a_call_that_was_cut_off_is_left_out_with_its_output",
        "tests/integration/prompts/test_cut_calls.py::test_a_response_is_continued_by_its_id",
    ),
    "responses.input.reference": _shown(
        "An item that is kept can be referred to by its id; any other is a 404.",
        f"{_DECODE}::test_a_reference_stands_for_its_item",
        f"{_APP}::test_an_item_can_be_referred_to",
        f"{_APP}::test_a_reference_to_nothing_is_a_clear_404",
    ),
}

REPLIES = {
    "responses.reply.shape": _shown(
        "A response has every key of OpenAI's, also those that are null.",
        f"{_APP}::test_a_response_is_answered_whole",
        f"{_ENCODE}::test_a_response_has_its_model_its_usage_and_what_was_asked",
    ),
    "responses.reply.echo": _shown(
        "A response repeats what was asked of it.",
        f"{_DECODE}::test_the_reply_repeats_what_was_asked",
    ),
    "responses.reply.items": _shown(
        "Reasoning, messages and calls are items of their own, in the order they came.",
        f"{_ENCODE}::test_the_items_of_a_response",
        f"{_ENCODE}::test_text_around_a_call_is_two_messages",
        f"{_ENCODE}::test_an_answer_of_nothing_is_complete",
    ),
    "responses.reply.arguments": _shown(
        "The arguments of a complete call are the JSON text of an object, at least `{}`.",
        f"{_ENCODE}::test_a_call_without_arguments_has_those_of_no_parameters",
    ),
    "responses.reply.incomplete": _shown(
        "An answer that was cut is `incomplete`, says why, and its last item is incomplete.",
        f"{_ENCODE}::test_an_answer_that_was_cut_is_incomplete",
        f"{_ENCODE}::test_a_call_that_was_cut_keeps_its_piece",
        f"{_CLIENT}::test_settings_reach_the_model_and_a_limit_leaves_it_incomplete",
    ),
    "responses.reply.error": _shown(
        "An error before the answer has a status, streamed or not.",
        f"{_APP}::test_an_error_before_the_answer_has_a_status",
    ),
}

STREAMS = {
    "responses.stream.order": _shown(
        "Each event has the client's type and its place, numbered from 0 without a gap.",
        _IN_ORDER,
        _ANY_ANSWER,
        f"{_ENCODE}::test_the_events_of_a_text",
        f"{_ENCODE}::test_the_events_of_thinking_and_calls",
    ),
    "responses.stream.whole": _shown(
        "The last event holds what the deltas told, and the same as without a stream.",
        _ANY_ANSWER,
        f"{_APP}::test_streamed_and_whole_are_the_same",
        f"{_CLIENT}::test_the_helper_for_streams_gathers_the_response",
    ),
    "responses.stream.token_by_token": _shown(
        "The text of a response comes token by token.",
        f"{_CLIENT}::test_an_async_client_is_answered",
        f"{_AGENTS}::test_a_run_is_streamed",
    ),
    "responses.stream.text": _shown(
        "Text of every kind arrives as it is.",
        f"{_ENCODE}::test_awkward_text_arrives_as_it_is",
        _ANY_ANSWER,
    ),
    "responses.stream.broken": _shown(
        "A stream that breaks ends in `error` and `response.failed`; what is open gets no end.",
        f"{_ENCODE}::test_what_is_open_at_an_error_has_no_end",
        f"{_ENCODE}::test_an_error_has_its_codes",
        f"{_ENCODE}::test_an_error_after_a_mere_comment_begins_a_response_first",
        f"{_APP}::test_an_answer_that_stops_is_an_error",
        f"{_CLIENT}::test_a_stream_that_breaks_ends_in_both_events_for_it",
        f"{_AGENTS}::test_a_stream_that_breaks_is_an_error",
    ),
    "responses.stream.left": _shown(
        "A client that leaves ends the work, and nothing is kept.",
        f"{_APP}::test_a_client_that_leaves_ends_the_work_and_keeps_nothing",
    ),
}

COUNTING = {
    "responses.counting.estimate": _shown(
        "The input tokens of a request are estimated: system prompt, messages, tools, schema.",
        f"{_CLIENT}::test_input_tokens_are_counted",
        f"{_COUNTING}::test_a_count_has_the_form_of_openais",
        "tests/integration/engine/test_counting.py::"
        "test_a_count_is_about_what_the_answer_then_uses",
        "tests/integration/engine/test_counting.py::test_whatever_is_part_of_the_input_counts",
    ),
    "responses.counting.past": _shown(
        "A stored response alone, or with more input, can be counted.",
        f"{_COUNTING}::test_what_a_response_builds_on_counts_alone_or_with_more",
    ),
    "responses.counting.nothing_happens": _shown(
        "The model is not asked, and nothing of the conversation stays.",
        "tests/integration/engine/test_counting.py::test_nothing_is_answered_and_nothing_stays",
        "tests/integration/engine/test_counting.py::"
        "test_a_parked_conversation_is_still_there_after_it_was_counted",
    ),
    "responses.counting.errors": _shown(
        "What cannot be counted is an error that names its field.",
        f"{_COUNTING}::test_what_cannot_be_counted_names_its_field",
        f"{_COUNTING}::test_what_has_no_effect_is_named",
    ),
}

COMPACTION = {
    "responses.compaction.endpoint": _shown(
        "A conversation is replaced by the caller's messages and one item, which comes back.",
        f"{_CLIENT}::test_a_conversation_is_compacted_and_goes_on",
        f"{_COMPACTED}::test_the_endpoint_answers_with_the_callers_messages_and_one_item",
        f"{_COMPACTED}::test_what_comes_of_it_is_the_next_input",
        f"{_COMPACTED}::test_a_compacted_conversation_is_compacted_again",
        f"{_COMPACTED}::test_a_stored_conversation_is_compacted_by_its_id",
    ),
    "responses.compaction.trigger": _shown(
        "A trigger is answered with one compaction item, streamed or not.",
        f"{_CLIENT}::test_a_response_compacts_when_its_input_says_so",
        f"{_COMPACTED}::test_a_trigger_is_answered_with_one_item",
        f"{_COMPACTED}::test_a_stream_says_that_it_compacts_and_tells_no_text",
        f"{_COMPACTED}::test_what_follows_a_trigger_begins_with_its_summary",
        "tests/clients/test_codex.py::test_a_long_conversation_is_compacted_by_the_server",
    ),
    "responses.compaction.whole": _shown(
        "A summary that is cut, missing or broken is none.",
        f"{_COMPACTED}::test_a_summary_that_was_cut_is_none",
        f"{_COMPACTED}::test_no_summary_is_an_error",
        f"{_COMPACTED}::test_a_summary_that_breaks_off_is_none",
    ),
}

CONVERSATIONS = {
    "responses.conversations.kept": _shown(
        "Conversations and their items are created, read, changed and deleted.",
        "tests/clients/test_openai_conversations.py::test_a_conversation_is_kept_and_changed",
        f"{_CONVERSATIONS}::test_a_conversation_is_created_changed_and_deleted",
        f"{_CONVERSATIONS}::test_items_are_added_listed_read_and_deleted",
        f"{_CONVERSATIONS}::test_a_stored_item_can_be_referenced",
    ),
    "responses.conversations.refused": _shown(
        "What no response could be built on is a 400 that names it.",
        f"{_CONVERSATIONS}::test_what_cannot_be_built_on_is_not_kept",
        f"{_CONVERSATIONS}::test_what_has_no_effect_is_named_or_an_error",
        f"{_CONVERSATIONS}::test_a_server_that_keeps_nothing_says_so",
    ),
    "responses.conversations.keys": _shown(
        "A key has its own conversations only.",
        f"{_CONVERSATIONS}::test_a_key_has_its_own_conversations_only",
        f"{_STORE}::test_an_owner_has_no_conversations_of_another",
    ),
    "responses.conversations.built_on": _shown(
        "A response builds on its conversation and is added to it.",
        "tests/clients/test_openai_conversations.py::test_responses_go_on_in_a_conversation",
        f"{_CONVERSATIONS}::test_a_response_builds_on_its_conversation_and_is_added_to_it",
        f"{_CONVERSATIONS}::test_calls_and_their_outputs_go_through_a_conversation",
        f"{_CONVERSATIONS}::test_nothing_of_an_answer_that_failed_is_added",
        f"{_CONVERSATIONS}::test_a_conversation_alone_is_counted_and_compacted",
    ),
}

STATE = {
    "responses.state.previous": _shown(
        "`previous_response_id` stands for all that was said before.",
        f"{_APP}::test_a_request_builds_on_a_response",
        f"{_DECODE}::test_a_request_builds_on_what_was_kept",
        f"{_DECODE}::test_what_was_ignored_of_the_past_was_named_then",
        f"{_AGENTS}::test_a_run_continues_from_the_last_response",
    ),
    "responses.state.instructions": _shown(
        "The instructions of the response before are not inherited.",
        f"{_APP}::test_instructions_are_not_inherited",
    ),
    "responses.state.same": _shown(
        "The parked session is used where it is that conversation, and the answer is the same.",
        f"{_CLIENT}::test_a_conversation_is_continued_and_a_branch_is_replayed_alike",
        f"{_CLIENT}::test_a_loop_of_tools",
    ),
    "responses.state.branches": _shown(
        "Several responses can build on one.",
        f"{_APP}::test_a_parent_has_as_many_children_as_wanted",
        f"{_STORE}::test_two_branches_of_one_parent_are_apart",
        f"{_CLIENT}::test_a_conversation_is_continued_and_a_branch_is_replayed_alike",
    ),
    "responses.state.missing": _shown(
        "A parent that is unknown or deleted is a 404 `previous_response_not_found`.",
        f"{_APP}::test_a_parent_that_is_not_there_is_a_clear_404",
        f"{_STORE}::test_what_built_on_a_deleted_response_has_no_history",
        f"{_CLIENT}::test_what_is_kept_is_read_and_deleted",
    ),
    "responses.state.store": _shown(
        "Responses are kept unless `store` is false, and then nothing is.",
        f"{_APP}::test_a_response_is_found_again_as_it_was_answered",
        f"{_APP}::test_a_response_that_is_not_to_be_kept_is_not",
        f"{_DECODE}::test_whether_a_response_is_kept",
    ),
    "responses.state.before_the_end": _shown(
        "A response is kept before its end is told, so that it can be built on at once.",
        f"{_APP}::test_a_response_is_stored_before_its_end_is_sent",
    ),
    "responses.state.failed": _shown(
        "A response that failed is not kept, one that was cut is.",
        f"{_APP}::test_an_error_in_the_middle_ends_the_stream_and_keeps_nothing",
        f"{_APP}::test_an_answer_that_was_cut_is_incomplete_and_kept",
    ),
    "responses.state.retrieved": _shown(
        "A response is found again as it was answered; one in the background is streamed again, "
        "from any event on.",
        f"{_BACKGROUND}::test_a_stream_resumes_after_any_number",
        f"{_APP}::test_a_response_is_found_again_as_it_was_answered",
        f"{_APP}::test_a_finished_response_is_not_streamed_again",
        f"{_CLIENT}::test_what_is_kept_is_read_and_deleted",
    ),
    "responses.state.input_items": _shown(
        "The input of a response is listed page by page, with all that was said before it.",
        f"{_APP}::test_the_input_of_a_response_is_listed_with_all_before_it",
        f"{_APP}::test_the_input_is_listed_page_by_page",
        f"{_APP}::test_a_wrong_page_names_its_parameter",
        f"{_DECODE}::test_items_are_kept_in_their_long_form_with_an_id",
        f"{_CLIENT}::test_what_is_kept_is_read_and_deleted",
    ),
    "responses.state.deleted": _shown(
        "A deleted response is gone, from the disk too.",
        f"{_APP}::test_a_response_is_deleted",
        f"{_SQLITE}::test_what_is_deleted_is_gone_from_the_disk",
    ),
    "responses.state.cancel": _shown(
        "A background response is cancelled; to cancel another one is a 400.",
        f"{_BACKGROUND}::test_a_response_is_cancelled",
        f"{_APP}::test_only_what_runs_in_the_background_is_cancelled",
        f"{_APP}::test_a_response_that_runs_is_not_cancelled_but_left",
        f"{_CLIENT}::test_what_is_kept_is_read_and_deleted",
    ),
    "responses.state.keys": _shown(
        "A key finds its own responses and no others.",
        f"{_APP}::test_a_key_sees_its_own_responses_only",
        f"{_STORE}::test_a_key_sees_its_own_responses_only",
    ),
    "responses.state.restart": _shown(
        "What is kept survives the server; what was running in the background has failed.",
        f"{_BACKGROUND}::test_after_a_restart_a_response_that_was_running_has_failed",
        f"{_SQLITE}::test_a_response_is_there_again_after_a_restart",
        f"{_CLIENT}::test_a_conversation_continues_at_another_server",
    ),
    "responses.state.shared": _shown(
        "Two servers can share what is kept.", f"{_SQLITE}::test_two_servers_share_a_file"
    ),
    "responses.state.any_use": _shown(
        "Whatever is kept, read, deleted and left to age, in any order, stays consistent.",
        f"{_STORE}::test_any_use_agrees_with_a_dictionary",
        f"{_STORE}::test_a_long_conversation_comes_back_in_order",
        f"{_STORE}::test_text_of_every_kind_comes_back",
        f"{_APP}::test_many_at_once_are_all_kept",
    ),
    "responses.state.expiry": _shown(
        "A conversation is kept for some days after its last response, then it is deleted.",
        f"{_STORE}::test_a_conversation_of_responses_lives_on_from_its_last",
        f"{_SQLITE}::test_what_is_too_old_leaves_the_disk_at_the_start",
    ),
    "responses.state.size": _shown(
        "The file is bounded: conversations used longest ago make room.",
        f"{_STORE}::test_the_conversations_of_longest_ago_make_room",
        f"{_STORE}::test_what_is_larger_than_all_costs_nothing_else",
        f"{_STORE}::test_a_history_beyond_the_limit_is_an_error",
    ),
    "responses.state.private": _shown(
        "Only the owner of the server can read the files, which are made when they are needed.",
        f"{_SQLITE}::test_only_the_owner_can_read_the_files",
        f"{_SQLITE}::test_nothing_is_written_before_there_is_something",
    ),
    "responses.state.cannot_be_kept": _shown(
        "A full disk or a broken file costs the keeping, which the reply says, not the answer.",
        f"{_APP}::test_a_full_disk_costs_the_keeping_and_not_the_answer",
        f"{_SQLITE}::test_a_full_disk_costs_the_keeping_only",
        f"{_SQLITE}::test_a_folder_that_cannot_be_made_costs_the_keeping_only",
    ),
    "responses.state.cannot_be_read": _shown(
        "What cannot be read is a 503 that is not retried, and the file is left alone.",
        f"{_APP}::test_a_file_that_cannot_be_read_is_a_clear_error",
        f"{_SQLITE}::test_a_file_that_is_no_database_is_left_alone",
        f"{_SQLITE}::test_a_file_of_a_later_version_is_left_alone",
    ),
    "responses.state.off": _shown(
        "A server that keeps nothing says so.",
        f"{_APP}::test_a_server_that_stores_nothing_reports_that",
        f"{_SQLITE}::test_the_settings_determine_place_and_size",
    ),
}

REQUIREMENTS: Mapping[str, Requirement] = {
    **PARAMETERS,
    **TOOLS,
    **INPUT,
    **REPLIES,
    **STREAMS,
    **COUNTING,
    **COMPACTION,
    **CONVERSATIONS,
    **STATE,
}
