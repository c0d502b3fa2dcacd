"""What the HTTP API owes to OpenAI's clients, one sentence each, with the tests that show it.

This list is the one place where the two are tied: a test says nothing of a requirement. The
contract is that of OpenAI's API for chat completions, models and legacy completions, as the
official client types it, and as far as Claude can keep it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Requirement:
    """A sentence that must be true, and the tests that fail if it is not."""

    says: str
    tests: tuple[str, ...]


def _shown(says: str, *tests: str) -> Requirement:
    return Requirement(says, tests)


_APP = "tests/unit/http_server/test_app.py"
_CLIENT = "tests/integration/http_server/test_openai_client.py"
_CONTINUATION = "tests/integration/engine/test_continuation.py"
_CONTINUING = "tests/integration/parity/test_continuing.py"
_DISCONNECTS = "tests/unit/http_server/test_disconnect.py"
_ENCODE = "tests/unit/http_server/openai/chat/test_encode.py"
_ENGINE_ERRORS = "tests/integration/engine/test_errors.py"
_ERRORS = "tests/unit/http_server/openai/shared/test_errors.py"
_FAULTS = "tests/integration/engine/test_sent_back.py"
_FROM_CLAUDE = "tests/unit/core/claude/reading/test_answer_reader.py"
_ISOLATION = "tests/integration/engine/test_isolation.py"
_MAIN = "tests/integration/cli/test_main_job.py"
_CUT = "tests/integration/prompts/test_cut_calls.py"
_DOCUMENTS = "tests/integration/prompts/test_documents.py"
_MESSAGES = "tests/unit/http_server/openai/chat/test_messages.py"
_OUTPUT = "tests/integration/engine/test_output.py"
_PARAMETERS = "tests/unit/http_server/openai/shared/test_parameters.py"
_PARITY = "tests/integration/parity/test_parity.py"
_TEXT = "tests/unit/http_server/openai/completions/test_decode.py"
_UNKNOWN = "tests/unit/http_server/openai/test_unknown_names.py"
_TOOLS = "tests/unit/http_server/openai/chat/test_tools.py"
_TO_CLAUDE = "tests/unit/core/claude/test_turn_settings.py"
_WIRE = "tests/integration/requirements/test_end_to_end.py"
_SYSTEM = "tests/integration/prompts/test_system_messages.py"

_ALIKE = f"{_PARITY}::test_all_apis_answer_alike"
_HONOURED = f"{_PARAMETERS}::test_what_is_honoured_reaches_the_core"
_IGNORED = f"{_PARAMETERS}::test_what_has_no_effect_is_named"
_NEUTRAL = f"{_PARAMETERS}::test_what_changes_nothing_passes_without_a_word"
_REFUSED = f"{_PARAMETERS}::test_what_cannot_be_done_is_refused"
_WRONG = f"{_PARAMETERS}::test_a_wrong_value_names_its_field"

PARAMETERS = {
    "chat.param.all_known": _shown(
        "Every parameter of the official client has a treatment, and no other name has.",
        f"{_PARAMETERS}::test_the_table_knows_every_parameter_of_the_client",
        f"{_PARAMETERS}::test_every_parameter_has_a_row_in_the_tests_of_its_treatment",
    ),
    "chat.param.null_is_absent": _shown("Null for any optional parameter is absence.", _NEUTRAL),
    "chat.param.unknown_is_named": _shown(
        "A name that is not OpenAI's is taken, has no effect and is named in the reply.",
        _IGNORED,
        f"{_WIRE}::test_what_has_no_effect_is_named",
    ),
    "chat.param.unknown_inside": _shown(
        "So is one inside any object of a request, with its path.",
        f"{_UNKNOWN}::test_a_name_that_an_object_does_not_have_is_named_with_its_path",
        f"{_UNKNOWN}::test_every_object_that_a_request_may_hold_is_among_those_of_the_tests",
        f"{_UNKNOWN}::test_what_belongs_to_another_kind_of_object_is_named",
    ),
    "chat.param.strict": _shown(
        "In strict mode, by header or by setting, what would be ignored is a 400 that names it.",
        f"{_PARAMETERS}::test_what_has_no_effect_is_an_error_in_strict_mode",
        f"{_APP}::test_strict_mode_by_header",
        f"{_APP}::test_strict_mode_by_setting",
    ),
    "chat.param.wrong_type": _shown(
        "A value of a wrong type or out of its range is a 400 that names the field.",
        _WRONG,
        f"{_CLIENT}::test_a_bad_request_names_its_field",
    ),
    "chat.param.messages.required": _shown(
        "No messages, or an empty list of them, is a 400 that names `messages`.",
        _WRONG,
        f"{_PARAMETERS}::test_missing_messages_are_named",
    ),
    "chat.param.model.answering": _shown(
        "The `model` of a reply is the full name of the one that answered.",
        f"{_MAIN}::test_the_sync_client_gets_a_whole_answer",
        _ALIKE,
    ),
    "chat.param.model.alias": _shown("A model is found by alias, full name and vendor.", _ALIKE),
    "chat.param.model.foreign": _shown(
        "Another maker's model is replaced by the default, which is named as ignored.", _ALIKE
    ),
    "chat.param.model.unknown": _shown(
        "A Claude model that does not exist is a 404 with `model_not_found`.", _ALIKE
    ),
    "chat.param.stream_options.include_usage": _shown(
        "`include_usage` asks for the chunk of usage.",
        f"{_WIRE}::test_the_usage_comes_last_and_alone_if_it_is_asked_for",
    ),
    "chat.param.stream_options.without_stream": _shown(
        "`stream_options` without a stream has no effect and is named.",
        f"{_PARAMETERS}::test_what_has_no_effect_is_named",
        f"{_PARAMETERS}::test_options_of_a_stream_have_effect_with_a_stream",
    ),
    "chat.param.stream_options.include_obfuscation": _shown(
        "Padding is never sent, and asking for it is no fault.",
        _NEUTRAL,
        f"{_WIRE}::test_the_usage_comes_last_and_alone_if_it_is_asked_for",
    ),
    "chat.param.max_tokens.limit": _shown(
        "Either name of the limit of tokens reaches the model, and the answer ends with `length`.",
        _ALIKE,
        f"{_WIRE}::test_finish_reasons",
    ),
    "chat.param.max_tokens.newer_wins": _shown(
        "`max_completion_tokens` counts where both limits are given.",
        f"{_PARAMETERS}::test_the_newer_limit_of_tokens_wins",
    ),
    "chat.param.max_tokens.positive": _shown("A limit below 1 is a 400.", _WRONG),
    "chat.param.max_tokens.own": _shown(
        "A limit holds for its own request only.",
        f"{_MAIN}::test_a_limit_of_one_request_does_not_hold_for_the_next",
    ),
    "chat.param.temperature.honoured": _shown(
        "A temperature reaches a model that takes one.",
        _ALIKE,
        f"{_ISOLATION}::test_sampling_reaches_a_model_that_takes_it",
    ),
    "chat.param.temperature.capped": _shown(
        "A temperature from 1 to 2 is taken as 1 and named; what is outside 0 to 2 is a 400.",
        _HONOURED,
        _IGNORED,
        _WRONG,
        f"{_WIRE}::test_a_temperature_above_claudes_scale_is_capped_and_named",
    ),
    "chat.param.temperature.refused": _shown(
        "Sampling that the model refuses is left out, named, and an error in strict mode.",
        _ALIKE,
        f"{_ISOLATION}::test_sampling_that_a_model_refuses_is_left_out_named_and_remembered",
    ),
    "chat.param.top_p.honoured": _shown(
        "A `top_p` reaches a model that takes one.", _HONOURED, _ALIKE
    ),
    "chat.param.top_p.small": _shown(
        "A `top_p` that goes with no thinking reaches the model.",
        f"{_FAULTS}::test_a_small_top_p_is_left_out_and_named",
    ),
    "chat.param.top_p.with_temperature": _shown(
        "What is refused only of temperature and top_p together is honoured of each alone.",
        f"{_FAULTS}::test_both_kinds_of_sampling_at_once_do_not_spoil_each_alone",
    ),
    "chat.param.stop.ends": _shown(
        "The answer ends before the first of up to four stop texts, with `stop`.",
        _ALIKE,
        f"{_OUTPUT}::test_an_answer_ends_at_a_stop_text",
    ),
    "chat.param.stop.count": _shown("More than four stop texts are a 400.", _WRONG, _ALIKE),
    "chat.param.stop.blank": _shown(
        "A stop text of white space is honoured, though the API takes none.",
        f"{_OUTPUT}::test_a_blank_stop_text_is_found_by_the_bridge",
    ),
    "chat.param.n": _shown(
        "`n` may be 1; more is a 400 `unsupported_value`, never a single choice.",
        _NEUTRAL,
        _REFUSED,
        f"{_WIRE}::test_a_bad_request_is_refused_before_the_stream",
    ),
    "chat.param.tools.offered": _shown(
        "Tools are offered to the model, and its calls come back by the callers' names.",
        _ALIKE,
        f"{_FROM_CLAUDE}::test_calls_are_streamed_under_the_callers_own_names_and_counted_from_0",
    ),
    "chat.param.tools.empty": _shown("An empty list of tools is none.", _NEUTRAL),
    "chat.param.tools.only_own": _shown(
        "The model is offered the tools of the request and none of an earlier one.",
        f"{_ISOLATION}::test_only_the_tools_of_the_request_are_offered",
    ),
    "chat.param.tools.name": _shown(
        "A tool's name of other characters or more than 64 is a 400.", _WRONG, _ALIKE
    ),
    "chat.param.tools.no_parameters": _shown(
        "A tool without `parameters` takes an object without fields.",
        _ALIKE,
        f"{_TOOLS}::test_a_definition",
    ),
    "chat.param.tools.strict": _shown(
        "`strict` of a tool has no effect and is named.",
        f"{_TOOLS}::test_what_has_no_effect_in_a_definition_is_named",
        f"{_TOOLS}::test_strict_false_is_the_default",
    ),
    "chat.param.tools.custom": _shown(
        "Tools that are no functions are a 400 that names their type.",
        f"{_TOOLS}::test_tools_of_other_kinds_are_not_supported",
    ),
    "chat.param.tools.twice": _shown(
        "Two tools of one name are a 400.",
        f"{_TOOLS}::test_a_choice_that_makes_no_sense_names_its_field",
        _ALIKE,
    ),
    "chat.param.tool_choice.none": _shown(
        "With `none` no tool is offered.", f"{_TOOLS}::test_tools_and_choice", _ALIKE
    ),
    "chat.param.tool_choice.forced": _shown(
        "`required` and a named tool are put to the API, on models that take it.",
        _ALIKE,
        f"{_OUTPUT}::test_a_forced_call_goes_to_a_model_that_takes_it",
    ),
    "chat.param.tool_choice.insisted": _shown(
        "On other models the bridge insists; plain text is never the answer to a forced call.",
        _ALIKE,
        f"{_OUTPUT}::test_a_forced_call_that_a_model_refuses_is_insisted_on",
        f"{_OUTPUT}::test_plain_text_is_never_the_answer_to_a_forced_call",
    ),
    "chat.param.tool_choice.not_on_offer": _shown(
        "A choice of a tool that is not on offer, or of any without tools, is a 400.",
        f"{_TOOLS}::test_a_choice_that_makes_no_sense_names_its_field",
        _ALIKE,
    ),
    "chat.param.tool_choice.allowed": _shown(
        "`allowed_tools` holds the other tools back.", f"{_TOOLS}::test_tools_and_choice", _ALIKE
    ),
    "chat.param.parallel_tool_calls": _shown(
        "`parallel_tool_calls: false` gets one call at most.",
        _ALIKE,
        f"{_OUTPUT}::test_one_call_at_a_time",
    ),
    "chat.param.functions": _shown(
        "The deprecated `functions` are answered in their own form, to and fro.",
        f"{_WIRE}::test_functions_are_answered_in_the_deprecated_form",
        f"{_TOOLS}::test_functions_are_answered_in_their_own_form",
    ),
    "chat.param.functions.with_tools": _shown(
        "Both forms of tools at once are a 400.",
        f"{_TOOLS}::test_a_choice_that_makes_no_sense_names_its_field",
    ),
    "chat.param.response_format.text": _shown("The format `text` is the default.", _HONOURED),
    "chat.param.response_format.json_object": _shown(
        "`json_object` gives the compact text of one object; without one, an error.",
        _ALIKE,
        f"{_OUTPUT}::test_a_json_object_comes_without_anything_around_it",
        f"{_OUTPUT}::test_an_answer_without_json_is_asked_for_once_more",
    ),
    "chat.param.response_format.json_schema": _shown(
        "`json_schema` gives compact JSON text that fits the whole schema, or an error.",
        _ALIKE,
        f"{_OUTPUT}::test_a_schema_goes_to_the_api_without_the_constraints_it_refuses",
        f"{_OUTPUT}::test_an_answer_that_breaks_the_whole_schema_is_an_error",
    ),
    "chat.param.response_format.fallback": _shown(
        "A schema that the API refuses is seen to by the CLI.",
        _ALIKE,
        f"{_OUTPUT}::test_a_schema_that_the_api_refuses_is_seen_to_by_the_cli",
    ),
    "chat.param.response_format.bad_schema": _shown(
        "What is no JSON Schema is a 400 that names `response_format`.",
        _ALIKE,
        f"{_OUTPUT}::test_what_is_no_schema_is_refused",
    ),
    "chat.param.response_format.with_tools": _shown(
        "A format and tools work together.",
        _ALIKE,
        f"{_OUTPUT}::test_a_schema_and_tools_work_together",
    ),
    "chat.param.reasoning_effort": _shown(
        "Each effort reaches the model; `none` and `minimal` turn thinking off.",
        _ALIKE,
        f"{_PARAMETERS}::test_efforts_are_those_of_the_client",
        f"{_OUTPUT}::test_no_effort_turns_thinking_off",
    ),
    "chat.param.reasoning_effort.unknown": _shown("Another effort is a 400.", _WRONG, _ALIKE),
    "chat.param.thinking_off.named": _shown(
        "Where sampling or a forced call turns thinking off, the reply says so.",
        _ALIKE,
        f"{_OUTPUT}::test_strict_refuses_what_would_turn_off_asked_for_thinking",
    ),
    "chat.param.verbosity": _shown("`verbosity` has no effect and is named.", _IGNORED, _NEUTRAL),
    "chat.param.seed": _shown("`seed` has no effect and is named.", _IGNORED),
    "chat.param.penalties": _shown(
        "`logit_bias` and the penalties are named unless they change nothing.", _IGNORED, _NEUTRAL
    ),
    "chat.param.logprobs": _shown(
        "`logprobs` and `top_logprobs` are named unless they are off.", _IGNORED, _NEUTRAL
    ),
    "chat.param.audio": _shown("Audio out is a 400; text alone is not.", _REFUSED, _NEUTRAL),
    "chat.param.prediction": _shown("`prediction` has no effect and is named.", _IGNORED),
    "chat.param.web_search_options": _shown("`web_search_options` is a 400.", _REFUSED),
    "chat.param.bookkeeping": _shown(
        "Store, user, safety identifier and tier are taken without a word.", _NEUTRAL
    ),
    "chat.param.cache_hints": _shown(
        "Hints for a prompt cache are taken without a word, beside a part too.",
        _NEUTRAL,
        f"{_MESSAGES}::test_a_part",
    ),
    "chat.param.metadata": _shown(
        "`metadata` comes back in the reply.", f"{_WIRE}::test_a_reply_has_all_its_keys"
    ),
    "chat.param.moderation": _shown(
        "Moderation that blocks is a 400; other moderation is named.", _REFUSED, _IGNORED
    ),
    "chat.param.responses_body": _shown(
        "A body for the Responses API is told where to go.",
        f"{_PARAMETERS}::test_a_request_for_the_responses_api_is_refused_with_the_right_url",
    ),
}

MESSAGES = {
    "chat.message.instructions": _shown(
        "The system and developer messages before all others become the system prompt, joined by a "
        "line end.",
        f"{_MESSAGES}::test_the_system_messages_before_all_others_are_the_system_prompt",
        f"{_WIRE}::test_leading_instructions_become_the_system_prompt_and_later_ones_stay",
    ),
    "chat.message.instructions.later": _shown(
        "A later system or developer message keeps its place, as marked text of the user's turn.",
        f"{_MESSAGES}::test_a_conversation",
        f"{_WIRE}::test_leading_instructions_become_the_system_prompt_and_later_ones_stay",
        f"{_SYSTEM}::test_a_conversation_goes_on_in_its_process_and_its_replay_is_the_same",
        f"{_SYSTEM}::test_after_results_it_is_replayed_in_its_place",
        f"{_SYSTEM}::test_every_api_gives_the_model_the_same",
    ),
    "chat.message.instructions.forged": _shown(
        "No other text has the mark of a system message; one that looks like it is named.",
        f"{_SYSTEM}::test_a_mark_that_a_user_writes_is_none",
    ),
    "chat.message.instructions.only": _shown(
        "Instructions alone are a 400.",
        f"{_MESSAGES}::test_a_conversation_that_cannot_be_answered_names_the_place",
    ),
    "chat.message.default_system": _shown(
        "Without instructions the server's own prompt is used.",
        f"{_MAIN}::test_without_a_system_message_the_preset_is_used",
    ),
    "chat.message.real_turns": _shown(
        "A history reaches the model as turns, not as text about turns.",
        f"{_MAIN}::test_history_arrives_as_real_turns",
        _ALIKE,
    ),
    "chat.message.content_forms": _shown(
        "Content may be a text, parts, null, empty, or absent from an assistant's message.",
        f"{_MESSAGES}::test_a_conversation",
        f"{_WIRE}::test_a_history_made_elsewhere_works",
    ),
    "chat.message.merged": _shown(
        "Messages of one role in a row become one turn.",
        f"{_MESSAGES}::test_a_conversation",
        f"{_WIRE}::test_a_history_made_elsewhere_works",
    ),
    "chat.message.assistant_first": _shown(
        "A history that the assistant begins gets one fixed user turn before it.",
        f"{_WIRE}::test_a_history_made_elsewhere_works",
        f"{_TO_CLAUDE}::test_a_history_that_starts_with_the_assistant_gets_a_user_turn_before_it",
    ),
    "chat.message.assistant_last": _shown(
        "A request that ends with the assistant is a 400 that says so.",
        f"{_MESSAGES}::test_a_conversation_that_cannot_be_answered_names_the_place",
        _ALIKE,
    ),
    "chat.message.own_reply": _shown(
        "A reply can be sent back as it came.",
        f"{_CLIENT}::test_a_reply_can_be_sent_back",
        f"{_MESSAGES}::test_our_own_reply_comes_back_without_a_word",
    ),
    "chat.message.foreign_ids": _shown(
        "Ids of calls made elsewhere are mapped to legal ones, calls and results alike.",
        f"{_WIRE}::test_a_history_made_elsewhere_works",
        _ALIKE,
    ),
    "chat.message.own_ids": _shown(
        "Ids that the bridge gave come back to the model unchanged.",
        f"{_WIRE}::test_our_own_ids_come_back_unchanged",
    ),
    "chat.message.repeated_ids": _shown(
        "A history that numbers its calls anew in every turn loses no result.",
        f"{_FAULTS}::test_ids_that_come_again_lose_no_result",
    ),
    "chat.message.parallel_results": _shown(
        "The results of parallel calls may come in any order.",
        f"{_MESSAGES}::test_a_conversation",
        _ALIKE,
    ),
    "chat.message.result_missing": _shown(
        "A call without its result is a 400 that names the place.",
        f"{_MESSAGES}::test_a_conversation_that_cannot_be_answered_names_the_place",
        _ALIKE,
    ),
    "chat.message.calls_passed_over": _shown(
        "Calls after which the conversation goes on without any result are left out and named.",
        f"{_MESSAGES}::test_calls_without_a_result_of_any_are_left_out_where_the_conversation_continues",
        f"{_CUT}::test_a_chat_continues_without_a_result",
    ),
    "chat.message.result_orphan": _shown(
        "A result of no call, or a second one, is a 400 that names its `tool_call_id`.",
        f"{_MESSAGES}::test_a_conversation_that_cannot_be_answered_names_the_place",
        _ALIKE,
    ),
    "chat.message.result_content": _shown(
        "A result may be a text, parts of text, images and documents, null or empty.",
        f"{_MESSAGES}::test_a_conversation",
        f"{_DOCUMENTS}::test_documents_in_a_result_reach_the_model",
        _ALIKE,
    ),
    "chat.message.result_long": _shown(
        "A long result reaches the model whole.",
        f"{_CONTINUATION}::test_a_result_too_long_for_the_way_of_a_call_is_replayed_whole",
        f"{_CONTINUATION}::test_a_result_of_400000_characters_reaches_a_waiting_turn_whole",
    ),
    "chat.message.result_resumes": _shown(
        "Results go to the turn that waits for them, whichever API it came by.",
        f"{_CONTINUATION}::test_tool_results_resume_the_turn_that_waits",
        f"{_CONTINUING}::test_a_turn_that_waits_for_results_continues_through_the_other_api",
    ),
    "chat.message.arguments": _shown(
        "Arguments are the JSON text of an object; empty ones are an empty object.",
        f"{_MESSAGES}::test_no_arguments_are_an_empty_object",
        _ALIKE,
    ),
    "chat.message.function_role": _shown(
        "Messages of the deprecated role `function` are matched with their calls by name.",
        f"{_MESSAGES}::test_the_deprecated_form_of_calls_is_read",
        f"{_WIRE}::test_functions_are_answered_in_the_deprecated_form",
    ),
    "chat.message.name": _shown(
        "`name` of a message has no effect and is named, as is any name not OpenAI's.",
        f"{_MESSAGES}::test_what_has_no_effect_in_a_message_is_named",
    ),
    "chat.message.refusal": _shown(
        "An earlier refusal counts as text.", f"{_MESSAGES}::test_a_conversation"
    ),
    "chat.message.verbatim": _shown(
        "A prompt is text: no command in it is run and no file is read.",
        f"{_ISOLATION}::test_prompts_are_text_in_every_turn",
        _ALIKE,
    ),
    "chat.part.image.data": _shown(
        "An image in a data URL reaches the model, if it is PNG, JPEG, GIF or WebP.",
        f"{_MESSAGES}::test_a_part",
        _ALIKE,
    ),
    "chat.part.image.url": _shown(
        "An image at an https address is left to the API to fetch.",
        _ALIKE,
        f"{_TO_CLAUDE}::test_an_image_at_an_address_is_left_to_the_api_to_fetch",
    ),
    "chat.part.image.bad_url": _shown(
        "Any other address, http too, is a 400 `invalid_image_url` that names the field.",
        f"{_MESSAGES}::test_a_part_that_cannot_be_used_names_its_field",
        _ALIKE,
    ),
    "chat.part.image.bad_data": _shown(
        "Data that is not base64, or is of another type, is a 400.",
        f"{_MESSAGES}::test_a_part_that_cannot_be_used_names_its_field",
        _ALIKE,
    ),
    "chat.part.file.data": _shown(
        "A PDF or text file in `file_data` reaches the model as a document.",
        f"{_MESSAGES}::test_a_part",
        _ALIKE,
    ),
    "chat.part.file.id": _shown(
        "A `file_id` is a 400: nothing is kept.",
        f"{_MESSAGES}::test_a_part_that_cannot_be_used_names_its_field",
    ),
    "chat.part.audio": _shown(
        "A part of audio is a 400, never dropped.",
        f"{_MESSAGES}::test_a_part_that_cannot_be_used_names_its_field",
    ),
}

REPLIES = {
    "chat.reply.keys": _shown(
        "A reply has all the keys that clients read, null ones too.",
        f"{_WIRE}::test_a_reply_has_all_its_keys",
        f"{_ENCODE}::test_a_reply_has_all_its_keys",
    ),
    "chat.reply.whole_is_stream": _shown(
        "A reply says what its stream would have said.",
        f"{_PARITY}::test_an_answer_is_the_same_whole_and_streamed",
    ),
    "chat.reply.content_null": _shown(
        "Content is null where there are calls and no text.",
        f"{_WIRE}::test_calls_alone_leave_the_content_null",
    ),
    "chat.reply.tool_calls_absent": _shown(
        "The key `tool_calls` is absent where there are no calls.",
        f"{_WIRE}::test_a_reply_has_all_its_keys",
    ),
    "chat.reply.text_beside_calls": _shown(
        "Text beside calls is kept.", f"{_ENCODE}::test_text_beside_calls_is_kept", _ALIKE
    ),
    "chat.reply.arguments_text": _shown(
        "Arguments are JSON text, not an object.",
        f"{_WIRE}::test_calls_alone_leave_the_content_null",
    ),
    "chat.reply.finish_reason": _shown(
        "Each end of an answer has its reason.",
        f"{_WIRE}::test_finish_reasons",
        f"{_FROM_CLAUDE}::test_each_stop_reason_has_its_finish_reason",
    ),
    "chat.reply.usage": _shown(
        "The prompt is counted with all that was read from the cache or written to it.",
        f"{_WIRE}::test_usage_counts_all_of_the_prompt",
        f"{_PARITY}::test_cached_tokens_are_reported",
    ),
    "chat.reply.usage.sum": _shown(
        "Usage is summed over the calls made for an answer.",
        f"{_FROM_CLAUDE}::test_usage_is_summed_over_calls_and_the_answer_starts_once",
    ),
    "chat.reply.thinking": _shown(
        "Thinking comes as `reasoning_content`, to those who ask, and changes nothing else.",
        f"{_WIRE}::test_thinking_changes_no_other_chunk",
        f"{_ENCODE}::test_thinking_is_in_the_reply_if_requested",
    ),
    "chat.reply.no_cli_text": _shown(
        "What the CLI says in the model's place is never an answer.",
        f"{_FROM_CLAUDE}::test_what_the_cli_writes_in_the_models_place_is_never_an_event",
        _ALIKE,
    ),
    "chat.reply.typed": _shown(
        "The official client understands every reply.",
        f"{_ENCODE}::test_the_client_understands_the_reply",
        f"{_CLIENT}::test_a_reply",
    ),
}

STREAMS = {
    "chat.stream.headers": _shown(
        "A stream is `text/event-stream`, not cached and not buffered.",
        f"{_APP}::test_a_chat_is_answered_as_a_stream",
    ),
    "chat.stream.frames": _shown(
        "Each event is one line of data, without a name, in one write.",
        f"{_APP}::test_events_that_come_one_by_one_are_written_one_by_one",
        f"{_APP}::test_a_burst_of_events_is_one_write_of_as_many_frames",
        f"{_ENCODE}::test_any_text_stays_on_one_line_and_whole",
        f"{_WIRE}::test_a_stream_has_one_role_one_end_and_one_mark",
    ),
    "chat.stream.same_head": _shown(
        "Id, time and model are the same in every chunk.",
        f"{_WIRE}::test_a_stream_has_one_role_one_end_and_one_mark",
    ),
    "chat.stream.role_once": _shown(
        "The role comes once, first, with an empty content.",
        f"{_WIRE}::test_a_stream_has_one_role_one_end_and_one_mark",
    ),
    "chat.stream.as_it_comes": _shown(
        "Tokens are sent as they come.",
        f"{_MAIN}::test_every_token_comes_when_it_comes",
        f"{_MAIN}::test_the_first_token_comes_while_the_model_still_speaks",
    ),
    "chat.stream.calls": _shown(
        "Calls are counted from 0 without gaps; id and name come once, before the arguments.",
        f"{_WIRE}::test_calls_are_counted_from_0_and_named_once",
    ),
    "chat.stream.finish_once": _shown(
        "Exactly one chunk has a finish reason, and no content.",
        f"{_WIRE}::test_a_stream_has_one_role_one_end_and_one_mark",
    ),
    "chat.stream.usage": _shown(
        "Usage comes in a last chunk without choices, null before, and only if asked for.",
        f"{_WIRE}::test_the_usage_comes_last_and_alone_if_it_is_asked_for",
        f"{_WIRE}::test_a_stream_has_one_role_one_end_and_one_mark",
    ),
    "chat.stream.done": _shown(
        "A whole stream ends with the mark, one that ended prematurely does not.",
        f"{_WIRE}::test_a_stream_has_one_role_one_end_and_one_mark",
        f"{_ENCODE}::test_an_error_ends_a_stream_without_an_end_mark",
    ),
    "chat.stream.late_status": _shown(
        "The status waits for the first event, so that an error before it has its own.",
        f"{_WIRE}::test_an_error_before_the_first_byte_has_its_status",
        f"{_APP}::test_an_error_before_the_first_event_has_its_status",
    ),
    "chat.stream.validated_first": _shown(
        "A bad request is a plain 400, streamed or not.",
        f"{_WIRE}::test_a_bad_request_is_refused_before_the_stream",
    ),
    "chat.stream.never_just_stops": _shown(
        "A stream that cannot go on ends in an error, and never just stops.",
        f"{_APP}::test_a_stream_that_just_stops_ends_in_an_error",
        _ALIKE,
    ),
    "chat.stream.keep_alive": _shown(
        "A silent stream is kept alive by comments, before the first chunk too.",
        f"{_DISCONNECTS}::test_a_silent_stream_is_kept_alive",
        f"{_DISCONNECTS}::test_a_long_wait_for_the_first_event_is_kept_alive_with_status_200",
    ),
    "chat.stream.disconnect": _shown(
        "A client that goes ends the work upstream.",
        f"{_DISCONNECTS}::test_a_client_that_goes_ends_the_work",
        f"{_MAIN}::test_the_first_token_comes_while_the_model_still_speaks",
        f"{_ENGINE_ERRORS}::test_a_caller_that_leaves_closes_the_upstream_connection",
    ),
    "chat.stream.typed": _shown(
        "The official client understands every chunk.",
        f"{_ENCODE}::test_the_client_understands_every_chunk",
        f"{_CLIENT}::test_tool_calls_in_a_stream",
    ),
}

ERRORS = {
    "chat.error.envelope": _shown(
        "Every error has the envelope with message, type, param and code.",
        f"{_ERRORS}::test_the_table",
        f"{_APP}::test_an_unknown_url",
        f"{_APP}::test_a_wrong_method",
        f"{_APP}::test_the_frameworks_own_validation_has_the_envelope",
    ),
    "chat.error.bad_json": _shown(
        "A body that is no JSON, or no object, is a 400.",
        f"{_APP}::test_a_body_that_is_no_json",
        f"{_PARAMETERS}::test_a_body_must_be_an_object",
    ),
    "chat.error.table": _shown(
        "Each kind of error has its status, type and code.",
        f"{_ERRORS}::test_the_table",
        f"{_ERRORS}::test_every_class_has_a_row_of_its_own",
        f"{_WIRE}::test_upstream_errors",
    ),
    "chat.error.upstream": _shown(
        "Each status of the API is an error of its own.",
        _ALIKE,
        f"{_FROM_CLAUDE}::test_each_status_is_an_error_of_its_own_without_a_word_of_the_clis",
    ),
    "chat.error.context": _shown(
        "A conversation that is too long is a 400 `context_length_exceeded`.", _ALIKE
    ),
    "chat.error.login": _shown(
        "Without a login it is a 503 that is not to be retried.",
        f"{_WIRE}::test_upstream_errors",
        f"{_ERRORS}::test_retry_headers",
    ),
    "chat.error.plan_limit": _shown(
        "A plan's limit is a 429 that says when it ends and is not retried before.",
        f"{_ENGINE_ERRORS}::test_a_usage_limit_is_reported_with_its_reset_time",
        f"{_CLIENT}::test_what_must_not_be_retried_is_asked_once",
    ),
    "chat.error.plan_limit.again": _shown(
        "It says so to every request, not to the first alone.",
        f"{_FAULTS}::test_a_usage_limit_is_reported_to_every_request",
    ),
    "chat.error.billing": _shown(
        "No credit is a 429 `insufficient_quota` that is not to be retried.",
        f"{_ERRORS}::test_some_reasons_have_a_code_of_their_own",
    ),
    "chat.error.queue_full": _shown(
        "More requests than may wait are a 429.",
        f"{_ENGINE_ERRORS}::test_more_requests_than_the_queue_holds_are_refused",
    ),
    "chat.error.process": _shown(
        "A process that dies is replaced unseen before the answer, and an error within it.",
        f"{_ENGINE_ERRORS}::test_a_process_that_dies_before_the_answer_is_replaced_unseen",
        f"{_ENGINE_ERRORS}::test_a_process_that_dies_in_the_middle_ends_the_stream_in_an_error",
    ),
    "chat.error.deadline": _shown(
        "A request that takes too long is a 504.",
        f"{_ENGINE_ERRORS}::test_the_deadline_ends_a_silent_answer_and_frees_the_session",
        f"{_APP}::test_an_error_in_the_middle_has_its_status_if_nothing_was_sent",
    ),
    "chat.error.own_fault": _shown(
        "A fault of the bridge is an opaque 500 with the request's id.",
        f"{_APP}::test_a_fault_of_ours_is_opaque_and_logged",
    ),
    "chat.error.too_large": _shown(
        "A body that is too large is a 413.",
        f"{_APP}::test_a_body_that_is_too_large",
        f"{_APP}::test_a_body_that_is_announced_too_large_is_not_read",
    ),
    "chat.error.unknown_url": _shown(
        "A URL that is not served is a 404, never a 501.",
        f"{_APP}::test_an_unknown_url",
        f"{_CLIENT}::test_an_endpoint_that_is_not_there_is_not_found",
    ),
    "chat.error.wrong_method": _shown(
        "A wrong method is a 405 that says which are right.", f"{_APP}::test_a_wrong_method"
    ),
    "chat.error.mid_stream": _shown(
        "An error within a stream is an event that every client raises, and the last one.",
        f"{_WIRE}::test_an_error_after_the_first_byte_is_the_last_event",
        f"{_CLIENT}::test_an_error_in_the_middle_of_a_stream_is_raised",
    ),
    "chat.error.retry": _shown(
        "What can be tried again says when; what cannot says that.",
        f"{_ERRORS}::test_retry_headers",
        f"{_CLIENT}::test_what_may_be_retried_is_asked_again",
        _ALIKE,
    ),
}

HEADERS = {
    "chat.header.request_id": _shown(
        "Every reply has an id of its own, which is in the log.",
        f"{_WIRE}::test_every_reply_is_named",
        f"{_APP}::test_request_ids_differ",
    ),
    "chat.header.openai": _shown(
        "Every reply has the version and the time it took.",
        f"{_WIRE}::test_every_reply_is_named",
        f"{_APP}::test_every_reply_has_its_headers",
    ),
    "chat.header.ignored": _shown(
        "What had no effect is named in `x-bridge-ignored-params`, safely, at most 20 names.",
        f"{_WIRE}::test_what_has_no_effect_is_named",
        f"{_APP}::test_what_was_ignored_is_named_in_a_header",
        f"{_APP}::test_at_most_twenty_ignored_names_are_reported",
        f"{_APP}::test_nothing_ignored_means_no_header",
    ),
    "chat.header.no_cors": _shown(
        "No page of another origin is let in.", f"{_WIRE}::test_every_reply_is_named"
    ),
    "chat.header.no_rate_limits": _shown(
        "Rate limits that are not known are not told.", f"{_WIRE}::test_every_reply_is_named"
    ),
    "chat.header.clients_own": _shown(
        "Headers that clients send of their own are taken.",
        f"{_WIRE}::test_a_clients_own_headers_are_taken",
    ),
}

MODELS = {
    "models.list": _shown(
        "Every model on offer is listed, with all keys of the client's type.",
        f"{_WIRE}::test_models_are_listed_and_found",
        f"{_MAIN}::test_both_apis_list_what_the_cli_offers",
        f"{_CLIENT}::test_models",
    ),
    "models.list.aliases": _shown(
        "The operator's aliases are listed, patterns are not.",
        f"{_WIRE}::test_an_alias_is_listed_and_a_pattern_is_not",
    ),
    "models.get": _shown(
        "A model is found by its id, which may have slashes.",
        f"{_WIRE}::test_models_are_listed_and_found",
        f"{_APP}::test_a_model",
    ),
    "models.get.unknown": _shown(
        "An unknown model is a 404 `model_not_found`.",
        f"{_WIRE}::test_models_are_listed_and_found",
        f"{_APP}::test_an_unknown_model",
    ),
    "embeddings.none": _shown(
        "Embeddings are a 404 that says there are none, never made-up vectors.",
        f"{_APP}::test_an_unknown_url",
    ),
    "health.open": _shown(
        "Health is outside /v1.",
        f"{_APP}::test_health",
        f"{_MAIN}::test_health_reports_pool_cli_and_login",
    ),
}

COMPLETIONS = {
    "completions.param.all_known": _shown(
        "Every parameter of the official client has a treatment.",
        f"{_TEXT}::test_what_changes_nothing_passes_without_a_word",
        f"{_PARAMETERS}::test_the_legacy_table_knows_every_parameter_of_the_client",
    ),
    "completions.prompt": _shown(
        "A prompt of one text is one message of the user's.",
        f"{_TEXT}::test_a_prompt_is_one_message_of_the_users",
        f"{_WIRE}::test_a_text_completion",
    ),
    "completions.refused": _shown(
        "Tokens, several prompts, suffix, echo, best_of, logprobs and n above 1 are a 400.",
        f"{_TEXT}::test_what_cannot_be_done_names_its_field",
    ),
    "completions.sampling": _shown(
        "Limit, sampling and stop texts are honoured.",
        f"{_TEXT}::test_what_is_honoured_reaches_the_core",
    ),
    "completions.reply": _shown(
        "The reply and the chunks are of the legacy shape.",
        f"{_WIRE}::test_a_text_completion",
        f"{_ENCODE}::test_a_text_reply",
        f"{_ENCODE}::test_a_text_stream",
    ),
}

REQUIREMENTS: Mapping[str, Requirement] = {
    **PARAMETERS,
    **MESSAGES,
    **REPLIES,
    **STREAMS,
    **ERRORS,
    **HEADERS,
    **MODELS,
    **COMPLETIONS,
}
