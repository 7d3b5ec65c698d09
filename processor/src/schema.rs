//! The tables, as the migrations make them.
#![allow(missing_docs)]

diesel::table! {
    node (uid) {
        uid -> Uuid,
        cluster -> Text,
        display_name -> Text,
        create_time -> Timestamptz,
        stream -> Nullable<Uuid>,
        agent_version -> Text,
        heartbeat_time -> Nullable<Timestamptz>,
        heartbeat_interval_seconds -> Integer,
        last_sequence -> BigInt,
        outbox_batches -> BigInt,
        identity_conflict_time -> Nullable<Timestamptz>,
        compare_time -> Nullable<Timestamptz>,
        compare_stream -> Nullable<Uuid>,
        compare_sequence -> Nullable<BigInt>,
        new_stream_time -> Nullable<Timestamptz>,
        new_stream_count -> Integer,
        retire_time -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    node_stream (node_uid, stream) {
        node_uid -> Uuid,
        stream -> Uuid,
        number -> Integer,
        received -> Multirange<BigInt>,
        create_time -> Timestamptz,
        receive_time -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    asset (uid) {
        uid -> Uuid,
        kind -> SmallInt,
        display_name -> Text,
        node_uid -> Nullable<Uuid>,
        natural_key -> Text,
        state -> SmallInt,
        details -> Nullable<Bytea>,
        managed -> Nullable<Bytea>,
        attributes -> Jsonb,
        revision -> BigInt,
        managed_revision -> BigInt,
        stream_number -> Integer,
        sequence -> BigInt,
        batch_index -> Integer,
        seen_stream_number -> Integer,
        seen_sequence -> BigInt,
        seen_batch_index -> Integer,
        state_hash -> Nullable<Bytea>,
        first_seen_time -> Nullable<Timestamptz>,
        remove_time -> Nullable<Timestamptz>,
        create_time -> Timestamptz,
        update_time -> Timestamptz,
        delete_time -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    asset_event (record_time, id) {
        record_time -> Timestamptz,
        id -> BigInt,
        event_uid -> Uuid,
        #[sql_name = "type"]
        event_type -> SmallInt,
        asset_uid -> Uuid,
        kind -> SmallInt,
        display_name -> Text,
        node_uid -> Nullable<Uuid>,
        natural_key -> Text,
        revision -> Nullable<BigInt>,
        managed_revision -> BigInt,
        state -> SmallInt,
        details -> Nullable<Bytea>,
        managed -> Nullable<Bytea>,
        changed_fields -> Array<Text>,
        actor -> Text,
        observe_time -> Nullable<Timestamptz>,
        stream -> Nullable<Uuid>,
        sequence -> Nullable<BigInt>,
        batch_index -> Nullable<Integer>,
    }
}

diesel::table! {
    asset_base (asset_uid) {
        record_time -> Timestamptz,
        id -> BigInt,
        event_uid -> Uuid,
        #[sql_name = "type"]
        event_type -> SmallInt,
        asset_uid -> Uuid,
        kind -> SmallInt,
        display_name -> Text,
        node_uid -> Nullable<Uuid>,
        natural_key -> Text,
        revision -> BigInt,
        managed_revision -> BigInt,
        state -> SmallInt,
        details -> Nullable<Bytea>,
        managed -> Nullable<Bytea>,
        changed_fields -> Array<Text>,
        actor -> Text,
        observe_time -> Nullable<Timestamptz>,
        stream -> Nullable<Uuid>,
        sequence -> Nullable<BigInt>,
        batch_index -> Nullable<Integer>,
    }
}

diesel::table! {
    dead_letter (uid) {
        uid -> Uuid,
        fingerprint -> Bytea,
        reason -> SmallInt,
        detail -> Text,
        queue -> Text,
        message_id -> Text,
        node_uid -> Nullable<Uuid>,
        headers -> Jsonb,
        body -> Bytea,
        body_size_bytes -> BigInt,
        count -> BigInt,
        create_time -> Timestamptz,
        last_time -> Timestamptz,
    }
}

diesel::table! {
    collector_contact (collector) {
        collector -> Text,
        contact_time -> Timestamptz,
    }
}

diesel::table! {
    signing_key (name) {
        name -> Text,
        key -> Bytea,
    }
}

diesel::table! {
    saved_search (uid) {
        uid -> Uuid,
        title -> Text,
        filter -> Text,
        order_by -> Text,
        column_paths -> Array<Text>,
        owner -> Text,
        revision -> BigInt,
        create_time -> Timestamptz,
        update_time -> Timestamptz,
    }
}

diesel::joinable!(asset -> node (node_uid));
diesel::joinable!(asset_base -> node (node_uid));
diesel::joinable!(asset_event -> node (node_uid));
diesel::allow_tables_to_appear_in_same_query!(asset, asset_base, asset_event, node, node_stream);
